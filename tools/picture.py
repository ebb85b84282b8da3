"""Draw a photo, its ground truth and the predictions of several runs into one PNG."""

import argparse
import sys


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog='picture', description=__doc__)
    p.add_argument('runs', nargs='+', help='folders of runs; their configs are run as Python')
    p.add_argument('--domain', default='cityscapes', help='name or name:split')
    p.add_argument('--image', type=int, default=0, help='number of the image, from 0')
    p.add_argument('--data-root', default='data', help='folder that holds the datasets')
    p.add_argument('--out', default='picture.png')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    from ibnseg import picture
    from ibnseg.engine import run

    def job() -> None:
        out = picture.panel(args.runs, args.domain, args.data_root, args.image, args.out)
        print(f'picture     {out}')

    return run.command(job)


if __name__ == '__main__':
    sys.exit(main())
