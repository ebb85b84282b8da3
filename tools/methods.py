"""List the methods beyond IBN: paper, sites, loss, cost, what each needs, the config that has it.

    python tools/methods.py

Train one with its config, or put it into any: ibnseg train CONFIG --method NAME. Names add up:
--method ibn_b+mixstyle. See docs/methods.md.
"""

import argparse
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('methods', __doc__)
    p.add_argument('--format', choices=['terminal', 'json'], default='terminal')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    import json

    from ibnseg.methods import listing

    print(
        json.dumps(listing.rows(), indent=2)
        if args.format == 'json'
        else '\n'.join(listing.lines())
    )


if __name__ == '__main__':
    sys.exit(main())
