"""`--help` of every tool, against that of MMSeg's own tools; medians."""

import argparse
import subprocess
import sys
from pathlib import Path

from timing import alternate, row

TOOLS = Path(__file__).parents[1]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--repeats', type=int, default=5)
    return p


def help_of(script: Path):
    """Run `script --help` to its end."""
    return lambda: subprocess.run(
        [sys.executable, script, '--help'], check=True, capture_output=True
    )


def main() -> None:
    args = parser().parse_args()
    from importlib.util import find_spec

    theirs = Path(find_spec('mmseg').origin).parent / '.mim' / 'tools'
    ways = {
        f'tools/{script.name}': help_of(script)
        for script in sorted(TOOLS.glob('*.py'))
        if script.name not in ('__init__.py', 'cli.py')
    }
    ways |= {f"MMSeg's {name}": help_of(theirs / name) for name in ('train.py', 'test.py')}
    found = alternate(ways, args.repeats)
    print(row('--help of', 's'))
    print(row(':--', '--:'))
    for name, milliseconds in found.items():
        print(row(name, f'{milliseconds / 1e3:.2f}'))


if __name__ == '__main__':
    sys.exit(main())
