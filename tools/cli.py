"""The command `ibnseg`: each subcommand is the script of that name in tools/."""

import importlib
import sys

from ibnseg.ending import go_on_unread
from ibnseg.text import meant

COMMANDS = {
    'train': 'train on one dataset, then evaluate on others',
    'sweep': 'train configs with several seeds and write one report',
    'finetune': 'fine-tune a checkpoint on parts of a target dataset',
    'test': 'evaluate a checkpoint on any number of datasets',
    'predict': 'predict photos and videos: overlays, label maps, side by side',
    'score': 'score a folder of predictions',
    'audit': 'check a dataset on disk for damage',
    'report': 'write tables from records',
    'gallery': "choose and predict photos for a report's page",
    'analyze': 'feature divergence, robustness to appearance and corruptions',
    'published': 'list published results, rank own records among them',
    'check-claim': 'find what is wrong with a comparison, of records or of a table',
    'picture': 'draw photo, ground truth and predictions into one PNG',
    'weights': 'list, inspect and convert published weights',
    'miniature': 'draw small synthetic datasets',
}


def main() -> int:
    go_on_unread()
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in COMMANDS:
        module = name.replace('-', '_')
        return importlib.import_module(f'{__package__}.{module}').main(sys.argv[2:])
    print('usage: ibnseg COMMAND ... (COMMAND --help for more)\n')
    for command, text in COMMANDS.items():
        print(f'  {command:11} {text}')
    if name in ('-h', '--help'):
        return 0
    print(f'error: unknown command {name!r}{meant(name, COMMANDS)}', file=sys.stderr)
    return 2
