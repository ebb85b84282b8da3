"""List the methods beyond IBN: paper, sites, loss, cost, and what each needs.

    python tools/methods.py

Train one with configs/methods/<name>.py, or put its name into model.backbone.placement; names add
up: placement=('ibn_b', 'mixstyle'). See docs/methods.md.
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
