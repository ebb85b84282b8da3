"""Describe a dataset of your own: look at a folder and write a first domain file.

    ibnseg domain new ~/data/mycity
    ibnseg domain new ~/data/mycity --ids cityscapes --out mycity.yaml

Finds photos, labels and splits by their names, and lists the ids or colours of the labels. What
they stand for is yours to say in the file, unless --ids or Cityscapes' own colours say it.
"""

import argparse
import re
import sys

from ibnseg import command
from ibnseg.labels.spaces import SPACES, STREETS


def parser() -> argparse.ArgumentParser:
    known = [name for name, of in SPACES.items() if (of.task, of.encoding) == (STREETS, 'index')]
    p = command.parser('domain', __doc__)
    p.add_argument('action', choices=['new'])
    p.add_argument('folder', help='with photos and labels, in any folders below it')
    p.add_argument('--name', help="of the dataset; default the folder's")
    p.add_argument('--out', metavar='FILE', help='default <name>.yaml')
    p.add_argument('--ids', choices=known, help='the labels have the ids of this dataset')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    import os
    import shlex
    from pathlib import Path

    from ibnseg import disk
    from ibnseg.domains import own
    from ibnseg.domains.draft import draft
    from ibnseg.errors import DataError

    folder = Path(args.folder)
    name = args.name or re.sub(r'[^a-z0-9]+', '_', folder.resolve().name.lower()).strip('_')
    own.check_name(name, '--name')
    out = Path(args.out or f'{name}.yaml')
    if out.exists():
        raise DataError(f'{out}: exists already; give another --out')
    root = os.path.relpath(folder.resolve(), out.absolute().parent)
    found = draft(folder, name, root, args.ids)
    disk.write_atomically(out, found.text)
    for line in (*found.found, f'wrote      {out}'):
        command.say(line)
    look = f'ibnseg browse {name} --domain-file {shlex.quote(str(out))}'
    fill = '' if found.is_whole else f'say in {out} which class each value is; then '
    command.say(f'next       {fill}{look}')


if __name__ == '__main__':
    sys.exit(main())
