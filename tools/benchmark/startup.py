"""`--help` of every tool, against that of MMSeg's own tools; medians."""

import argparse
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from timing import alternate, row

TOOLS = Path(__file__).parents[1]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--repeats', type=int, default=5)
    args = p.parse_args()
    theirs = Path(find_spec('mmseg').origin).parent / '.mim' / 'tools'
    scripts = {f'tools/{path.name}': path for path in sorted(TOOLS.glob('*.py'))}
    del scripts['tools/__init__.py'], scripts['tools/cli.py']
    scripts |= {f"MMSeg's {name}": theirs / name for name in ('train.py', 'test.py')}
    run = partial(subprocess.run, check=True, capture_output=True)
    ways = {name: partial(run, [sys.executable, path, '--help']) for name, path in scripts.items()}
    print(row('--help of', 's'))
    print(row(':--', '--:'))
    for name, milliseconds in alternate(ways, args.repeats).items():
        print(row(name, f'{milliseconds / 1e3:.2f}'))


if __name__ == '__main__':
    main()
