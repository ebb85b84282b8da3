"""Measure what a network has learned beside its mIoU: one folder of JSON, text and figure each.

    ibnseg analyze divergence RUN ... --between gta5:val cityscapes:val
    ibnseg analyze appearance RUN ... --domains cityscapes:val --style-from gta5:val
    ibnseg analyze corruptions RUN ... --domains cityscapes:val

A RUN is the work dir of `ibnseg train`, whose config is run as Python, or a classifier of the hub:
resnet50_ibn_b (published weights) or resnet50_ibn_b=FILE.
"""

import argparse
import sys
from pathlib import Path

from ibnseg import command
from ibnseg.text import tell


def _shared_options(p: argparse.ArgumentParser) -> None:
    p.add_argument('networks', nargs='+', metavar='RUN', help='folder of a run, or a classifier')
    p.add_argument(
        '--style-from',
        metavar='IMAGES',
        help='domain (name:split) or folder of the images whose style is taken',
    )
    p.add_argument('--stylised', metavar='DIR', help='folder of stylised copies of the images')
    p.add_argument('--seed', type=int, default=0, help='of the draw of a partner for each image')
    command.add(p, '--data-root', data_root=dict(help='folder of the datasets; default data'))


def _divergence_options(p: argparse.ArgumentParser) -> None:
    _shared_options(p)
    p.add_argument(
        '--between',
        nargs='+',
        required=True,
        metavar='IMAGES',
        help='two sets of images: domains (name:split), folders, or lists (.txt); one with --style',
    )
    p.add_argument(
        '--style',
        default='none',
        metavar='CHANGE',
        help='change the second set, or the one: rgb+50, r+50, std*1.5, reinhard, histogram, '
        'fourier, stylised',
    )
    p.add_argument('--images', type=int, metavar='N', help='take N of each set, evenly spaced')
    p.add_argument(
        '--at', nargs='+', default=[], metavar='MODULE', help='modules instead of stem and blocks'
    )
    p.add_argument('--out', default='work_dirs/divergence', help='folder; default %(default)s')


def _divergence(args: argparse.Namespace) -> None:
    names = args.between * 2 if len(args.between) == 1 else args.between
    if len(names) != 2 or (len(args.between) == 1 and args.style == 'none'):
        raise ValueError(
            f'--between has {len(args.between)} sets of images; expected two, or one and --style'
        )
    if args.images is not None and args.images < 2:
        raise ValueError(f'--images {args.images}: expected at least 2')
    command.say(f'comparing {names[0]} and {names[1]} in {len(args.networks)} networks')
    from ibnseg.analysis import divergence
    from ibnseg.pipeline import appearance

    root = args.data_root or 'data'
    sets = tuple(
        divergence.image_set(name, root, change, args.images)
        for name, change in zip(names, ('none', args.style), strict=True)
    )
    given = args.style_from, root, args.stylised, args.seed
    found = divergence.run(
        args.networks,
        sets,
        args.out,
        args.data_root,
        lambda network, name: appearance.describe(name, network.about, *given),
        args.at,
    )
    tell(divergence.text(found))
    for suffix in ('json', 'md', 'png'):
        tell(f'{suffix:11} {args.out}/divergence.{suffix}')


def _appearance_options(p: argparse.ArgumentParser) -> None:
    _shared_options(p)
    p.add_argument(
        '--changes',
        nargs='+',
        metavar='CHANGE',
        help='rgb+50, r+50 (or other grey levels), std*1.5, reinhard, histogram, fourier, '
        'stylised; default: all whose images are given',
    )
    p.add_argument('--domains', nargs='+', help="of segmentors; default the config's")
    p.add_argument('--protocol', metavar='NAME', help='of segmentors, see ibnseg test')
    p.add_argument(
        '--images', metavar='DIR', help='of classifiers of the hub: a folder of images a class'
    )
    p.set_defaults(interrupted='the same command goes on from the records that are written')
    p.add_argument('--out', default='work_dirs/appearance', help='folder; default %(default)s')


def _appearance(args: argparse.Namespace) -> None:
    changes = args.changes or [
        *('rgb+50', 'r+50', 'std*1.5'),
        *(('reinhard', 'histogram', 'fourier') if args.style_from else ()),
        *(('stylised',) if args.stylised else ()),
    ]
    command.say(f'measuring {len(args.networks)} networks by none, {", ".join(changes)}')
    from ibnseg.analysis import robustness

    taken = ('data_root', 'domains', 'protocol', 'images', 'style_from', 'stylised', 'seed')
    options = robustness.Options(
        changes=changes, out=Path(args.out), **{key: getattr(args, key) for key in taken}
    )
    found = robustness.run(args.networks, options)
    tell(robustness.text(found))
    for suffix in ('json', 'md', 'png'):
        tell(f'{suffix:11} {args.out}/appearance.{suffix}')


def _corruptions_options(p: argparse.ArgumentParser) -> None:
    p.add_argument('networks', nargs='+', metavar='RUN', help='folder of a run of ibnseg train')
    p.add_argument(
        '--corruptions', nargs='+', metavar='NAME', help='default: the 16 of Cityscapes-C'
    )
    p.add_argument('--severities', nargs='+', type=int, choices=range(1, 6), help='default 1 to 5')
    p.add_argument('--domains', nargs='+', help="default the config's")
    p.add_argument('--protocol', metavar='NAME', help='see ibnseg test')
    p.add_argument('--seed', type=int, default=0, help='of what is drawn for each photo')
    command.add(p, '--data-root', data_root=dict(help='folder of the datasets; default data'))
    p.set_defaults(interrupted='the same command goes on from the records that are written')
    p.add_argument('--out', default='work_dirs/corruptions', help='folder; default %(default)s')


def _corruptions(args: argparse.Namespace) -> None:
    command.say(f'measuring {len(args.networks)} networks on clean and corrupted photos')
    from ibnseg.analysis import corruptions, robustness
    from ibnseg.text import meant

    known = corruptions.CORRUPTIONS
    names = list(dict.fromkeys(args.corruptions or known))
    if unknown := [name for name in names if name not in known]:
        near = meant(unknown[0], known)
        raise ValueError(f'unknown corruption {unknown[0]!r}; choose from {known}{near}')
    taken = ('data_root', 'domains', 'protocol', 'seed')
    options = robustness.Options(
        changes=(), out=Path(args.out), **{key: getattr(args, key) for key in taken}
    )
    severities = sorted(set(args.severities or corruptions.SEVERITIES))
    found = corruptions.run(args.networks, options, names, severities)
    tell(corruptions.text(found))
    for suffix in ('json', 'md', 'png'):
        tell(f'{suffix:11} {args.out}/corruptions.{suffix}')


#: Name -> what it says, its options, its job. Another analysis is a row.
ANALYSES = {
    'divergence': (
        'feature divergence of two sets of images at the stem and after each block',
        _divergence_options,
        _divergence,
    ),
    'appearance': (
        'mIoU or accuracy when the colours, the contrast or the style of the images change',
        _appearance_options,
        _appearance,
    ),
    'corruptions': (
        'mIoU on photos with noise, blur, weather and digital damage: Cityscapes-C for any domain',
        _corruptions_options,
        _corruptions,
    ),
}


def parser() -> argparse.ArgumentParser:
    p = command.parser('analyze', __doc__)
    jobs = p.add_subparsers(dest='analysis', required=True, metavar='|'.join(ANALYSES))
    for name, (text, options, _) in ANALYSES.items():
        options(jobs.add_parser(name, help=text, description=text))
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    args.prog += f' {args.analysis}'
    job = ANALYSES[args.analysis][-1]
    return command.run(lambda: job(args), getattr(args, 'interrupted', ''))


if __name__ == '__main__':
    sys.exit(main())
