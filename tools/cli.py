"""The command `ibnseg`: each subcommand is the script of that name in tools/."""

import importlib
import os
import sys

COMMANDS = {
    'train': 'train on one world, then measure on the others',
    'sweep': 'train configs with several seeds, into one report',
    'finetune': 'go on training on part of a target, into one table',
    'test': 'measure a checkpoint on any number of domains',
    'score': 'score a folder of predictions',
    'audit': 'what is wrong with a data set on disk',
    'report': 'records -> tables',
    'picture': 'photo, truth and predictions in one PNG',
    'weights': 'published weights: list, inspect, convert',
    'miniature': 'draw small stand-ins for the data sets',
}


def main() -> int:
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in COMMANDS:
        try:
            return importlib.import_module(f'{__package__}.{name}').main(sys.argv[2:])
        except BrokenPipeError:  # `| head` has read enough; Python would flush once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
    print('usage: ibnseg COMMAND ... (COMMAND --help for more)\n')
    for command, text in COMMANDS.items():
        print(f'  {command:10} {text}')
    if name in ('-h', '--help'):
        return 0
    print(f'error: unknown command {name!r}', file=sys.stderr)
    return 2
