"""Show a page on this machine where a photo is dropped and its prediction seen.

    ibnseg demo-page work_dirs/ibn_b
    ibnseg demo-page work_dirs/resnet50 work_dirs/ibn_b --port 8080

Several networks are shown side by side. A network is the folder of a run, a package or its name, a
config followed by a checkpoint, or a checkpoint beside its config. The page asks nothing of the
internet, no other machine reaches it, and no photo is kept. It needs werkzeug (ibnseg[page]).
"""

import argparse
import sys

from ibnseg import command, given


def parser() -> argparse.ArgumentParser:
    p = command.parser('demo-page', __doc__)
    p.add_argument('words', nargs='+', metavar=given.METAVAR, help='Configs are run as Python')
    p.add_argument('--port', type=int, help='default: the first free one from 8000 on')
    p.add_argument(
        '--host',
        default='127.0.0.1',
        help="address of this machine to answer at; '0.0.0.0' lets in whoever reaches it",
    )
    p.add_argument('--device', help="'cpu', 'cuda:1', ...; default: the best that is here")
    command.add(p, '--cfg-options')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args), 'the page has ended, and no photo is kept')


def _networks(words: list[str]) -> list[tuple[str, str | None]]:
    """Return networks, as `given.split`. Raises ValueError for a word that names none."""
    networks, others = given.split(words)
    if others:
        given.network(others[:1])  # says what is wrong with a name
        raise ValueError(
            f'{others[0]}: no network. Give the folder of a run of ibnseg train, with its config '
            '(*.py) and checkpoint (*.pth), or a config and a checkpoint. Photos are dropped on '
            'the page'
        )
    return networks


def _job(args: argparse.Namespace) -> None:
    from ibnseg.inference.page.server import Server

    networks = _networks(args.words)
    if args.port is not None and not 0 <= args.port < 1 << 16:
        raise ValueError(f'--port {args.port}: expected 0 (any free one) to 65535')
    server = Server(args.host, args.port)
    from ibnseg import _stack

    _stack.require()
    from ibnseg.inference.model import load
    from ibnseg.inference.page.answers import Answers
    from ibnseg.train.config import parse_options

    options = parse_options(args.cfg_options)
    answers = Answers([load(*one, device=args.device, options=options) for one in networks])
    for name, model in zip(answers.names, answers.models, strict=True):
        command.say(f'model       {name}, {model.checkpoint}')
    command.say(f'page        {server.address}')
    if not server.is_private:
        command.say('            without a password: whoever reaches this machine may use it')
    command.say('Open it in a browser and drop a photo on it. Ctrl-C ends it.')
    server.serve(*answers.html(), answers)


if __name__ == '__main__':
    sys.exit(main())
