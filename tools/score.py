"""Score a folder of predictions, from this toolkit or another, on a domain.

    python tools/score.py cityscapes results/ --name segformer

A prediction is a PNG of class ids in the size of the label, named as its photo: by the photo's
path in the data set, or by its name alone where that is unique. Writes the record that
tools/report.py reads.
"""

import argparse
import sys


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog='score', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument('domain', help='e.g. cityscapes, camvid:Seq05VD')
    p.add_argument('predictions', help="a folder, or one of tools/test.py's --save-predictions")
    p.add_argument('--data-root', default='data', help='folder with one folder a data set (data)')
    p.add_argument('--name', help='of the model; not needed for predictions saved here')
    p.add_argument('--source', metavar='NAME:SPLIT', help='what it was trained on, if known')
    p.add_argument('--seed', type=int, help='that it was trained with, if known')
    p.add_argument(
        '--ids',
        default='train',
        metavar='train|raw|SPACE',
        help="what a value means: a class's number (train, the default), the id in the domain's "
        'own label files (raw), or in those of a label space (cityscapes: its labelIds)',
    )
    p.add_argument(
        '--like',
        metavar='RECORD',
        help='a record whose protocol the predictions followed; else they count as of a protocol '
        'of their own, which report shows beside others with --mixed only',
    )
    p.add_argument(
        '--skip-list', nargs='+', default=[], metavar='FILE', help='leave these pairs out (audit)'
    )
    p.add_argument('--out', help='record file; default <predictions>.<domain>.record.json')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    from pathlib import Path

    from ibnseg.engine import run

    def job() -> None:
        from rich.console import Console

        from ibnseg import progress, records, report, score

        record, packed = score.score(
            args.domain,
            args.predictions,
            args.data_root,
            name=args.name,
            source=args.source,
            seed=args.seed,
            ids=args.ids,
            like=records.read(args.like) if args.like else None,
            skip_lists=args.skip_list,
            track=lambda files: progress.track(files, 'scoring', len(files)),
        )
        folder = Path(args.predictions).absolute()
        domain = '.'.join(score.place(args.domain).parts)
        out = args.out or folder.with_name(f'{folder.name}.{domain}.record.json')
        score.write(record, packed, out)
        Console(highlight=False).print(report.terminal(report.tabulate([record])))
        print(f'record      {out}')

    return run.command(job)


if __name__ == '__main__':
    sys.exit(main())
