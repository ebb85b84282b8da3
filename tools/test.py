"""Evaluate a checkpoint, or anyone's network, on any number of datasets in one run.

    ibnseg test ibn_b_gta5_to_cityscapes CHECKPOINT --domains gta5 cityscapes
    ibnseg test --model onnx:net.onnx --model-classes classes.yaml --domains cityscapes acdc

Other networks: torchvision:NAME, hf:FOLDER (transformers), smp:FOLDER
(segmentation_models.pytorch), package.module:function (own code that returns a torch module).
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('test', __doc__)
    p.add_argument(
        'config',
        type=command.config,
        nargs='?',
        help='the config that the checkpoint was trained with',
    )
    p.add_argument('checkpoint', nargs='?')
    p.add_argument(
        '--domains', nargs='+', help="e.g. gta5 cityscapes camvid:Seq05VD; default the config's"
    )
    p.add_argument(
        '--protocol',
        metavar='NAME',
        help="published protocol instead of the config's own: native, "
        'robustnet-1536, blindnet-1024, hrda-1024, hrda-2048, tqdm-2048, rein-half, soma-half '
        '(docs/protocols.md)',
    )
    p.add_argument(
        '--classes',
        choices=['19', '16', '13'],
        help='number of classes that count; 16 and 13 as usual for SYNTHIA',
    )
    p.add_argument(
        '--out',
        help='record file; default <model>.<checkpoint>.<digits>.record.json in test/ below the '
        'work dir, with other digits for another checkpoint, protocol or choice of domains',
    )
    p.add_argument(
        '--save-predictions',
        metavar='DIR',
        help='also write each prediction as a PNG, for ibnseg score; one that is there already, '
        'of the same checkpoint and protocol, is kept',
    )
    p.add_argument(
        '--reliability',
        action='store_true',
        help='also measure calibration and how errors show in the confidence, for ibnseg report; '
        'takes longer (docs/statistics.md)',
    )
    log = 'folder whose test/ gets the record and the log; default that of the checkpoint'
    p.add_argument('--audit', action='store_true', help='audit the data first; stop at errors')
    command.add(p, '--work-dir', work_dir=dict(help=log))
    command.add(p, '--data-root', '--name', '--compile', '--skip-list', '--launcher')
    command.add(p, '--cfg-options')
    _add_networks(p)
    return p


def _add_networks(p: argparse.ArgumentParser) -> None:
    """Add what is run in another engine, and what comes from elsewhere."""
    p.add_argument(
        '--engine',
        choices=['onnxruntime', 'openvino'],
        help='run the network in it instead of torch (docs/export.md); the record says so',
    )
    p.add_argument(
        '--precision',
        choices=['float32', 'bfloat16'],
        default='float32',
        help='that openvino computes in; bfloat16 is faster on processors that have it',
    )
    p.add_argument('--export', metavar='FILE', help='of ibnseg export; default: one is made')
    p.add_argument('--model', metavar='SPEC', help='a network from elsewhere, without a config')
    p.add_argument(
        '--model-classes', metavar='FILE', help='YAML: its classes, its input (docs/export.md)'
    )
    p.add_argument('--source', metavar='NAME:SPLIT', help='what --model was trained on, if known')


def main(argv: list[str] | None = None) -> int:
    p = parser()
    args = p.parse_args(argv)
    if not args.model and not args.checkpoint:
        missing = ['checkpoint'] if args.config else ['config', 'checkpoint']
        p.error(f'the following arguments are required: {", ".join(missing)}')
    if args.model and (args.config or not args.domains):
        p.error('--model takes no config or checkpoint, and needs --domains')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    kept = 'no record was written'
    if args.save_predictions:
        kept += f'; the same command continues with the predictions in {args.save_predictions}'
    return command.run(lambda: _job(args), kept)


def _subject(args: argparse.Namespace) -> Any:
    """Return what is measured: the checkpoint, by torch or in an engine."""
    if not args.engine:
        return args.checkpoint
    from ibnseg.train.subject import InEngine

    return InEngine(args.checkpoint, args.engine, args.precision, args.export)


def _check_engine(args: argparse.Namespace) -> None:
    for word, value in (('model-classes', args.model_classes), ('source', args.source)):
        if value and not args.model:
            raise ValueError(f'--{word} is of a network from elsewhere: say --model, too')
    if args.model and args.export:
        raise ValueError('--export is of a checkpoint; say --model onnx:FILE alone')
    if (args.export or args.precision != 'float32') and not args.engine:
        raise ValueError('--export and --precision are of an engine: say --engine, too')
    if args.engine == 'onnxruntime' and args.precision != 'float32':
        raise ValueError('--precision bfloat16: only --engine openvino has it')
    if args.compile and (args.engine or args.model):
        word = 'engine' if args.engine else 'model'
        raise ValueError(f'--compile with --{word}: it is for configs in torch; give one of them')


def _elsewhere(args: argparse.Namespace) -> None:
    from ibnseg import _stack

    _stack.require()
    from ibnseg.train import checks, foreign
    from ibnseg.train.config import parse_options
    from ibnseg.train.test import test

    given = args.model_classes, args.engine, args.precision
    subject = foreign.Elsewhere(args.model, args.domains, *given)
    if args.reliability and subject.merges:
        raise ValueError(
            '--reliability: outputs of this network are merged, left out or absent, so the softmax '
            'of its classes is not its own. Leave --reliability away'
        )
    config = foreign.config_of(
        subject, args.domains, data_root=args.data_root, name=args.name, source=args.source,
        work_dir=args.work_dir or str(Path('work_dirs', subject.file.name)),
        launcher=args.launcher, skip_lists=args.skip_lists,
    )  # fmt: skip
    config.merge_from_dict(parse_options(args.cfg_options))
    if args.audit:
        checks.audit_data(config, ('test_dataloader',))
    command.say(f'testing {args.model} on {", ".join(args.domains)}')
    if subject.absent:
        command.say(f'no output means {", ".join(subject.absent)}: never predicted')
    if subject.unused:
        command.say(f'{len(subject.unused)} outputs mean no class, and take no part')
    test(
        config, subject, out=args.out, protocol=args.protocol, classes=args.classes,
        save_predictions=args.save_predictions, with_reliability=args.reliability,
    )  # fmt: skip


def _job(args: argparse.Namespace) -> None:
    _check_engine(args)
    if args.model:
        _elsewhere(args)
        return
    from ibnseg.train import checks
    from ibnseg.train.config import from_arguments

    # By default beside the run of the checkpoint.
    work_dir = args.work_dir or str(Path(args.checkpoint).parent)
    config = from_arguments(args, work_dir=work_dir)
    measured = args.domains or config.test_dataloader.dataset.domains
    config.test_dataloader.dataset.domains = list(measured)
    checks.check_protocol(config, args.protocol, args.classes)
    if args.audit:
        checks.audit_data(config, ('test_dataloader',))
    by = f' by {args.engine}' if args.engine else ''
    command.say(f'testing {args.checkpoint} on {", ".join(measured)}{by}')
    from ibnseg.train.test import test

    test(
        config,
        _subject(args),
        domains=args.domains,
        out=args.out,
        protocol=args.protocol,
        classes=args.classes,
        save_predictions=args.save_predictions,
        with_reliability=args.reliability,
    )


if __name__ == '__main__':
    sys.exit(main())
