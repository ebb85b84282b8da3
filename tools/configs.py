"""List the configs that come with ibnseg, or copy some with all that they inherit from.

    ibnseg configs
    ibnseg configs ibn_b_gta5_to_cityscapes --copy-to configs

Every command takes a config by its name here, from any folder.
"""

import argparse
import sys

from ibnseg import command
from ibnseg.text import tell


def parser() -> argparse.ArgumentParser:
    p = command.parser('configs', __doc__)
    p.add_argument('names', nargs='*', metavar='NAME', help='default: all')
    p.add_argument('--copy-to', metavar='DIR', help='copy them there instead')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    from pathlib import Path

    from ibnseg import named

    known = named.names()
    chosen = [Path(named.find(name)) for name in args.names] or [*known.values()]
    if foreign := [path for path in chosen if path not in known.values()]:
        raise ValueError(f'{foreign[0]}: a file of your own, none that comes with ibnseg')
    if args.copy_to:
        for path in named.copy(chosen, args.copy_to):
            tell(path)
        return
    shown = {name: path for name, path in known.items() if path in chosen}
    width = max(map(len, shown))
    for name, path in shown.items():
        tell(f'{name:{width}}  {named.title(path)}'.rstrip())


if __name__ == '__main__':
    sys.exit(main())
