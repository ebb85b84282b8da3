"""What is checked before anything is run: source, data, classes, and how it will be measured.

Imports neither torch nor mmseg, so that what is missing is said at once.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .. import audit, command, domains, progress
from ..measure import protocols, selection
from ..text import tell
from . import values
from .config import LOADERS, check_given, domain_names, schedulers, state_protocol


def check_source(config: Config) -> None:
    """Raise ValueError unless the config trains on what its `source` says: the record says that."""
    data = config.train_dataloader.dataset
    if 'domain' not in data or config.get('fine_tuned'):
        return
    trained, stated = domains.Source.of(data.domain, data.get('mixing')), config.source
    if str(trained) != str(domains.Source.of(domains.whole(stated))):
        raise ValueError(
            f'the config says source {stated}, its train_dataloader reads {trained}. Change both: '
            'source=... (and mixing) and train_dataloader.dataset.domain=... (and its mixing)'
        )


def check_training(config: Config) -> None:
    """Raise ValueError where a part of a training is missing, or its schedule counts epochs."""
    for key in ('train_cfg', 'optim_wrapper', 'val_dataloader', 'val_cfg', 'val_evaluator'):
        check_given(key, config.get(key))
    check_given('optim_wrapper.optimizer', config.optim_wrapper.get('optimizer'))
    for schedule in schedulers(config):
        if schedule.get('by_epoch', True) and not schedule.get('convert_to_iter_based'):
            raise ValueError(
                f'param_scheduler ({schedule.get("type")}): by_epoch is True, which it is where it '
                'is not given; expected by_epoch=False, since training goes by iterations'
            )


def check_hooks(config: Config) -> None:
    """Raise ValueError unless checkpoints are saved by ibnseg's hook, and by it alone.

    What MMEngine's saves does not say what it was trained on, and its name is not looked for.
    """
    hooks = {f'default_hooks.{k}': hook for k, hook in (config.get('default_hooks') or {}).items()}
    hooks |= {f'custom_hooks.{i}': h for i, h in enumerate(config.get('custom_hooks') or ())}
    hooks.setdefault('default_hooks.checkpoint', None)
    for key, hook in hooks.items():
        given = (hook or {}).get('type')
        name = getattr(given, '__name__', str(given)).rpartition('.')[2]
        ours = name == 'AtomicCheckpointHook'
        if name == 'CheckpointHook' or (key == 'default_hooks.checkpoint' and not ours):
            interval = (hook or {}).get('interval', 1000)
            raise ValueError(
                f"{key} is {given}. Checkpoints are saved by ibnseg's own hook, which resumes, "
                'selects by validation and says what was trained on: expected '
                f"default_hooks.checkpoint = dict(type='AtomicCheckpointHook', interval="
                f'{interval}, keep=1), and no CheckpointHook beside it'
            )


def check_trained_on(checkpoint: str | Path, meta: Mapping[str, Any], config: Config) -> None:
    """Raise ValueError where a checkpoint says that it was trained on another source."""
    source = meta.get('trained', {}).get('source', config.source)
    if source != config.source:
        raise ValueError(
            f'{checkpoint} was trained on {source}, the config says {config.source}. Give the '
            'config that it was trained with'
        )


def choose_rule(config: Config, option: str | None) -> selection.Rule:
    """Return the rule that selects the checkpoint, and have the config validate on what it needs.

    Args:
        option: of a `selection.RULES`; default: the config's `select`, else what its validation
            amounts to.
    """
    validation = config.val_dataloader.dataset
    option = option or config.get('select')
    if option is None:
        return selection.implied(config.source, validation.domains)
    rule = selection.find(option)
    validation.domains = selection.validation(
        rule, config.source, validation.domains, config.test_dataloader.dataset.domains
    )
    config.select = option
    return rule


def find_pairs(config: Config, loader: str) -> dict[str, domains.Used]:
    """Return domain -> its pairs, of each domain of a loader.

    Say, once in a process, which do not fit, and where it is not the published number.

    Raises DataError where files are missing, or as `domains.use`.
    """
    if not config[loader]:
        raise ValueError(f'{loader} is {config[loader]}; give the config of the training')
    data = config[loader].dataset
    where = data.data_root, data.get('skip_lists', ()), data.get('odd_pairs', 'leave_out')
    found = {name: domains.use(name, *where) for name in domain_names(data)}
    for used in found.values():
        command.say_once(used.report())
    return found


def audit_data(config: Config, loaders: Sequence[str] = LOADERS) -> None:
    """Audit the data of a config's loaders.

    Raises DataError where what is damaged would be used; ValueError with a launcher: while one
    process audits, the others' wait for it would time out.
    """
    used = [config[loader].dataset for loader in loaders]
    sets = [(name, data.data_root) for data in used for name in domain_names(data)]
    if config.launcher != 'none':
        each = (f'ibnseg audit {name.split(":")[0]} {shlex.quote(root)}' for name, root in sets)
        commands = ' && '.join(dict.fromkeys(each))
        raise ValueError(
            f'--audit with --launcher {config.launcher}: an audit is for one process. Run it '
            f'before, and this without --audit: {commands}'
        )
    with progress.bar('audit') as bar:
        lists = {path for data in used for path in data.get('skip_lists', ())}
        reports = audit.before_training(sets, lists, bar)
    for found in reports:
        tell(f'audit {found.domain}: {found.files:,} files, {found.verdict}', flush=True)


def check_protocol(config: Config, protocol: str | None = None, classes: str | None = None) -> None:
    """Raise ValueError for a slip in what is to be measured, before any file is looked for.

    Args:
        protocol, classes: of the command line; default: the config's.
    """
    values.check(config)
    state_protocol(config)
    data = config.test_dataloader.dataset
    trained = [row.name for row in domains.trained_on(config.source)]
    check_heads(config, [*trained, *data.domains])
    for domain in domain_names(data):
        _protocol(config, domain, 0, protocol or data.get('protocol'), classes)


def _protocol(
    config: Config, domain: str, images: int, stated: Any, classes: str | None = None
) -> protocols.Protocol:
    bfloat16 = bool(config.test_cfg.get('fp16'))
    altered = config.test_dataloader.dataset.get('altered')
    found = protocols.describe(stated, domain, images, config.model.test_cfg, bfloat16, altered)
    if classes := classes or config.get('class_set'):
        found = replace(found, classes=protocols.class_set(found.space, classes))
    return found


def plan_measurement(config: Config) -> dict[str, protocols.Protocol]:
    """Return the protocol of each domain to measure ('name:split'), and find its files.

    Raises:
        DataError: files are missing. ValueError: a head of other classes, a pipeline of the user's
            own in the place of a protocol, or as `protocols.describe`.
    """
    check_protocol(config)
    data = config.test_dataloader.dataset
    own = data.get('pipeline')
    of_photos = own == config.get('test_pipeline') and not protocols.loads_labels(own or ())
    if own is not None and not of_photos:
        raise ValueError(
            'test_dataloader.dataset has a pipeline of its own; a measurement builds it from a '
            'protocol. Leave it away, or as test_pipeline is, for photos without labels, and state '
            'protocol = dict(photo=(width, height), keep_ratio=True), or the name of a published '
            'setting'
        )
    data.raw = True
    return {
        domain: replace(
            _protocol(config, domain, len(used.pairs), data.get('protocol')), pairs=used.part
        )
        for domain, used in find_pairs(config, 'test_dataloader').items()
    }


def check_heads(config: Config, names: Sequence[str]) -> None:
    """Raise ValueError unless every head has as many outputs as the domains have classes."""
    classes = domains.task(names).classes
    for key in ('decode_head', 'auxiliary_head'):
        heads = config.model.get(key) or []
        for head in heads if isinstance(heads, list | tuple) else [heads]:
            if head.num_classes != len(classes):
                shown = ', '.join(classes[:3]) + (', ...' if len(classes) > 3 else '')
                raise ValueError(
                    f'{", ".join(names)}: {len(classes)} classes ({shown}), but model.{key} tells '
                    f'{head.num_classes} apart. Name domains of the same classes, or give the '
                    f'heads num_classes={len(classes)} and train them on these'
                )
            if (ignored := head.get('ignore_index', 255)) != 255:
                raise ValueError(
                    f'model.{key}.ignore_index is {ignored!r:.60}; expected 255, which labels hold '
                    'where no class counts'
                )
            losses = head.get('loss_decode') or []
            for loss in losses if isinstance(losses, list | tuple) else [losses]:
                if not isinstance(loss, Mapping):
                    raise ValueError(
                        f"model.{key}.loss_decode is {loss!r:.60}; expected dict(type='...')"
                    )
                weights = loss.get('class_weight') or classes
                if not isinstance(weights, str | list | tuple):
                    raise ValueError(
                        f'model.{key}.loss_decode.class_weight is {weights!r:.60}; expected a list '
                        f'of {len(classes)} numbers, one a class'
                    )
                if not isinstance(weights, str) and len(weights) != len(classes):
                    raise ValueError(
                        f'model.{key}.loss_decode.class_weight has {len(weights)} weights; '
                        f'expected {len(classes)}, one a class'
                    )


def check_writable(out: Path) -> None:
    """Make the folder of a file to write, now and not after hours of measuring."""
    if out.is_dir():
        raise ValueError(f'--out {out} is a folder; expected the name of a file to write')
    out.parent.mkdir(parents=True, exist_ok=True)
