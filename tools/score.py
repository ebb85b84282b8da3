"""Score a folder of predictions, from ibnseg or another toolkit, on a dataset.

    ibnseg score cityscapes results/ --name segformer

A prediction is a PNG of class ids in the size of the label. Its name is the path of the photo in
the dataset, or the photo's file name if that is unique. Writes a record for tools/report.py.
"""

import argparse
import sys
from pathlib import Path

from ibnseg import command
from ibnseg.text import tell


def parser() -> argparse.ArgumentParser:
    p = command.parser('score', __doc__)
    p.add_argument('domain', help='e.g. cityscapes, camvid:Seq05VD')
    p.add_argument('predictions', help='folder of PNGs, e.g. from tools/test.py --save-predictions')
    p.add_argument('--name', help='name of the model; not needed for predictions of tools/test.py')
    p.add_argument('--source', metavar='NAME:SPLIT', help='what the model was trained on, if known')
    p.add_argument('--seed', type=int, help='seed of the training, if known')
    p.add_argument(
        '--ids',
        default='train',
        metavar='train|raw|SPACE',
        help="what a pixel value means: class number (train, the default), id in the dataset's own "
        'label files (raw), or id in a label space (cityscapes: its labelIds)',
    )
    p.add_argument(
        '--like',
        metavar='RECORD',
        help='record whose protocol the predictions followed; without it they get a protocol of '
        'their own, which report shows beside others only with --mixed',
    )
    p.add_argument('--out', help='record file; default <predictions>.<domain>.record.json')
    command.add(p, '--data-root', '--skip-list', data_root=dict(default='data'))
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    from ibnseg import domains, report
    from ibnseg.measure import from_files, matrices, predictions, records

    if not domains.known(args.domain) and domains.known(args.predictions):
        command.turn_round(args, args.predictions, args.domain)
    record, packed = from_files.measure(
        args.domain,
        args.predictions,
        args.data_root,
        name=args.name,
        source=args.source,
        seed=args.seed,
        ids=args.ids,
        like=records.read(args.like) if args.like else None,
        skip_lists=args.skip_lists,
    )
    folder = Path(args.predictions).absolute()
    domain = '.'.join(predictions.place(args.domain).parts)
    out = args.out or folder.with_name(f'{folder.name}.{domain}.record.json')
    hashes = {one.domain: one.protocol_hash for one in record.domains}
    sha256 = record.provenance.get('checkpoint_sha256')
    records.check_free(Path(out), record.model, sha256, hashes)
    matrices.save(record, packed, out)
    report.show(report.tabulate([record]))
    tell(f'record      {out}')


if __name__ == '__main__':
    sys.exit(main())
