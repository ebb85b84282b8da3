"""The command `ibnseg`: each subcommand is the script of that name in tools/."""

import os
import signal
import sys


def _end(number, _):
    """End at once, without a trace: nothing has begun."""
    os.write(2, b'interrupted\n' if number == signal.SIGINT else b'terminated\n')
    os._exit(128 + number)


_end.early = True  # `ending.on_signals` takes over
# Before the imports, which take a quarter of a second; of the command only, not of who imports it.
if sys.argv[0].rpartition(os.sep)[2] in ('ibnseg', 'ibnseg.exe', '__main__.py'):
    for _name in ('SIGINT', 'SIGTERM', 'SIGUSR1'):
        _each = getattr(signal, _name, None)
        if _each and signal.getsignal(_each) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(_each, _end)

import argparse  # noqa: E402
import contextlib  # noqa: E402
import importlib  # noqa: E402
from importlib import metadata  # noqa: E402

from ibnseg import __version__, command, domains, named  # noqa: E402
from ibnseg.ending import go_on_unread  # noqa: E402
from ibnseg.text import meant  # noqa: E402

COMMANDS = {
    'train': 'train on one dataset, then evaluate on others',
    'sweep': 'train configs with several seeds and write one report',
    'finetune': 'fine-tune a checkpoint on parts of a target dataset',
    'test': 'evaluate a checkpoint on any number of datasets',
    'predict': 'predict photos and videos: overlays, label maps, side by side',
    'demo-page': 'show predictions of a photo dropped into the browser',
    'export': 'write a network as ONNX, OpenVINO, torch.export or TorchScript',
    'score': 'score a folder of predictions',
    'domain': 'describe a dataset of your own: a first domain file',
    'browse': "show a dataset's photos with their labels, as a page",
    'audit': 'check a dataset on disk for damage',
    'report': 'write tables from records',
    'gallery': "choose and predict photos for a report's page",
    'analyze': 'feature divergence, robustness to appearance and corruptions',
    'published': 'list published results, rank own records among them',
    'check-claim': 'find what is wrong with a comparison, of records or of a table',
    'methods': 'list methods beyond IBN, with sites, loss and cost',
    'picture': 'draw photo, ground truth and predictions into one PNG',
    'weights': 'list, inspect and convert published weights',
    'miniature': 'draw small synthetic datasets',
    'package': 'write a trained network as one folder: weights, record, card, hashes',
    'verify': "check a package's files and, where the data is, its numbers",
    'configs': 'list the configs that come with ibnseg, or copy them',
    'demo': 'train three small networks on synthetic streets and compare them',
    'run': "train or test another project's config: MMDetection, MMPretrain, MMSegmentation",
}


#: What `--version` names beside ibnseg, where it is installed.
_PARTS = ('torch', 'onedl-mmsegmentation', 'mmsegmentation', 'onedl-mmcv', 'mmcv', 'mmengine')


def _load(name: str):
    return importlib.import_module(f'{__package__}.{name.replace("-", "_")}')


def version() -> str:
    """Return ibnseg's version and those of what it builds on, without importing any of them."""
    found = [f'ibnseg {__version__}']
    for part in _PARTS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f'{part} {metadata.version(part)}')
    return ', '.join(found)


def complete() -> None:
    """Answer a shell that asks what may follow (argcomplete), and end; return without argcomplete.

    Set up by: eval "$(register-python-argcomplete ibnseg)"
    """
    try:
        import argcomplete
    except ImportError:
        return
    whole = argparse.ArgumentParser('ibnseg')
    whole.add_argument('--version', action='store_true')
    commands = whole.add_subparsers()
    for name in COMMANDS:
        own = _load(name).parser()
        for action in own._actions:
            if action.type is command.config:
                action.completer = lambda **_: sorted(named.names())
            elif '--domains' in action.option_strings or action.dest == 'domain':
                action.completer = lambda **_: sorted(domains.DOMAINS)
        commands.add_parser(name, parents=[own], add_help=False, conflict_handler='resolve')
    argcomplete.autocomplete(whole)


def main() -> int:
    if '_ARGCOMPLETE' in os.environ:
        complete()
    go_on_unread()
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in COMMANDS:
        return _load(name).main(sys.argv[2:])
    if name == '--version':
        print(version())
        return 0
    print('usage: ibnseg COMMAND ... (COMMAND --help for more)\n')
    for listed, text in COMMANDS.items():
        print(f'  {listed:11} {text}')
    if name in ('-h', '--help'):
        return 0
    print(f'error: unknown command {name!r}{meant(name, COMMANDS)}', file=sys.stderr)
    return 2
