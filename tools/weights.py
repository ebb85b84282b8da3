"""Published weights: list them, see what a weight file is, convert it, average several."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ibnseg import command
from ibnseg.text import tell


def parser() -> argparse.ArgumentParser:
    p = command.parser('weights', __doc__)
    jobs = p.add_subparsers(dest='job', required=True, metavar='list|inspect|convert|average')
    jobs.add_parser('list', help='list the published files: name, errors, hash, whether downloaded')
    source = dict(metavar='FILE', help='path, URL, or ibn://NAME from the list')
    inspect = jobs.add_parser('inspect', help='show what a file is: dialect, network, size, hash')
    inspect.add_argument('file', **source)
    convert = jobs.add_parser('convert', help='convert a file to safetensors')
    convert.add_argument('file', **source)
    convert.add_argument('out', metavar='OUT.safetensors', help='with --trust OUT.pth')
    convert.add_argument(
        '--to',
        choices=['original', 'ours'],
        default='ours',
        help="tensor names: the IBN-Net release's with its classifier, or ibnseg's (default)",
    )
    convert.add_argument(
        '--arch', metavar='NAME', help='network to fit plain weights to, e.g. resnet50_ibn_b'
    )
    convert.add_argument(
        '--trust',
        action='store_true',
        help="unpickle a file of your own, as MMEngine's Runner writes them, which runs the code "
        'in it; keep the weights of the whole network, and plain values, in OUT.pth',
    )
    average = jobs.add_parser('average', help='average trainings of one network (soup, ReVT)')
    average.add_argument('files', nargs='+', metavar='FILE', help='checkpoints, two or more')
    average.add_argument('--out', required=True, metavar='OUT.pth')
    average.add_argument(
        '--keys',
        default='.*',
        metavar='PATTERN',
        help="average what matches from the start of a key, say 'backbone.*'; the rest is of the "
        'first file; default: all',
    )
    average.add_argument(
        '--refresh-bn',
        metavar='CONFIG',
        help="config of the training: renew BatchNorm's statistics on its photos",
    )
    average.add_argument('--batches', type=int, default=100, help='of --refresh-bn; default 100')
    command.add(average, '--data-root', '--skip-list', '--cfg-options')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    args.prog += f' {args.job}'
    job = dict(list=_list, inspect=_inspect, convert=_convert, average=_average)[args.job]
    return command.run(lambda: job(args))


def _list(args: argparse.Namespace) -> None:
    from ibnseg import weights
    from ibnseg.weights import cache, networks

    form = '{:19} {:11} {:9} {:5} {}'
    tell(form.format('ibn://', 'top-1/top-5', 'sha256', 'here', 'network'))
    for name, row in weights.PUBLISHED.items():
        errors = '-' if row.top1 is None else f'{row.top1:.2f}/{row.top5:.2f}'
        here = 'yes' if cache.place(row.url).is_file() else ''
        network = networks.spell(weights.network(name))
        tell(form.format(name, errors, row.sha256, here, network))
    tell('\nerrors on the ImageNet validation set in per cent; - where none is published')
    for name, row in weights.PUBLISHED.items():
        if row.note:
            tell(f'{name}: {row.note}')
    tell(f'files lie in {cache.folder()}; lay one there by hand to work offline')


def _inspect(args: argparse.Namespace) -> None:
    from ibnseg import weights
    from ibnseg.weights import networks

    found = weights.describe(args.file)
    network = 'not one of ours' if found.network is None else networks.spell(found.network)
    rows = {
        'file': found.path,
        'sha256': found.sha256,
        'names': found.dialect.name,
        'network': network,
        'stem': found.stem,
        'tensors': found.tensors,
        'parameters': f'{found.parameters:,}',
        'beside it': ', '.join(found.others[:4]) + (', ...' if len(found.others) > 4 else ''),
        'note': found.dialect.note,
        'made from': found.metadata.get('source', ''),
        'with sha256': found.metadata.get('source_sha256', ''),
    }
    for name, value in rows.items():
        if value != '':
            tell(f'{name:11} {value}')


def _is_there(file: str) -> bool:
    return '://' in file or Path(file).is_file()


def _convert(args: argparse.Namespace) -> None:
    from mmengine.logging import MMLogger

    from ibnseg import weights

    if not _is_there(args.file) and _is_there(args.out):
        command.turn_round(args, args.out, args.file)
    if args.trust:
        left = weights.unpickle(args.file, args.out)
        tell(f'left out    {", ".join(left) or "nothing"}')
        tell(f'written to {args.out}')
        return
    MMLogger.get_current_instance().setLevel('ERROR')  # the account is printed here
    report = weights.convert(args.file, args.out, to=args.to, arch=args.arch)
    tell(report)
    tell(f'written to {args.out}')


def _average(args: argparse.Namespace) -> None:
    from ibnseg.weights import average, conversion

    conversion.check_place(out := Path(args.out), ('.pth',))
    result = average.average(args.files, args.keys)
    if args.refresh_bn:
        _refresh(args, result)
    elif result.stale:
        raise ValueError(
            f"{len(result.stale)} running statistics (BatchNorm's) would be those of no network, "
            f'say {result.stale[0]}. Renew them: --refresh-bn CONFIG, the config of the training'
        )
    result.save(out)
    tell(f'averaged {len(result.averaged)} tensors of {len(args.files)} files')
    if result.differing:
        tell(f'{len(result.differing)} others differ, and are those of {args.files[0]}')
    tell(f'written to {out}')


def _refresh(args: argparse.Namespace, result: Any) -> None:
    from ibnseg.train.config import load_config, parse_options
    from ibnseg.train.refresh import refresh
    from ibnseg.weights.files import some

    options = parse_options(args.cfg_options)
    config = load_config(
        args.refresh_bn, data_root=args.data_root, skip_lists=args.skip_lists, options=options
    )
    result.state, renewed = refresh(config, result.state, args.batches, result.meta)
    if left := [key for key in result.stale if key not in renewed]:
        raise ValueError(
            f'{args.refresh_bn} does not renew {some(left)}: these layers do not gather statistics '
            'in its training. Give the config of the training of these files'
        )
    result.meta['averaged'] |= dict(refreshed=args.batches)
    tell(f'renewed {len(renewed)} running statistics over {args.batches} batches')


if __name__ == '__main__':
    sys.exit(main())
