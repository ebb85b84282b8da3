"""A config file and the command line become the config of a run. Needs neither torch nor mmseg."""

import argparse
import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import _stack

_stack.check()

from mmengine.config import Config, DictAction  # noqa: E402
from mmengine.utils import import_modules_from_strings  # noqa: E402

from .. import command, disk, domains  # noqa: E402
from ..domains import own  # noqa: E402
from . import keys, plainfiles, tracking  # noqa: E402

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_SUFFIXES = ('.py', '.json', '.yaml', '.yml')
_NEEDED = ('source', 'model', *LOADERS)


class NoSource(ValueError):
    """A config of MMSegmentation's own form, without what ibnseg compares by."""


def load_config(
    path: str | Path,
    *,
    work_dir: str | None = None,
    data_root: str | None = None,
    name: str | None = None,
    amp: bool = False,
    compile: bool = False,
    launcher: str = 'none',
    skip_lists: Sequence[str] = (),
    track: Sequence[str] = (),
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Config:
    """Read a config file and apply the command line to it.

    Args:
        path: MMEngine config. It is Python and is run as such.
        work_dir: default `work_dirs/<path of the config below configs/>`.
        data_root: replaces that of every dataset.
        name: of the model in records and tables; default: the `model_name` that this file states,
            else the name of the file. An inherited name counts for nothing: what a config changes
            makes another model.
        amp: train in mixed precision, float16 on a GPU, bfloat16 on a CPU; measure in float32.
        compile: run the backbone by torch.compile, if that works here.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        skip_lists: files that name pairs to leave out (`ibnseg.domains.skip`).
        track: trackers that the run writes to, too (`tracking.TRACKERS`).
        method: one, or several joined by '+', in the place of the config's (`method.apply`); it
            becomes part of the model's name, unless `name` is given.
        options: dotted keys -> values, as MMEngine's `--cfg-options`.

    Raises:
        FileNotFoundError, ValueError: no such config, or one that lacks what a run needs.
    """
    config = read_config(path, _NEEDED, work_dir, launcher, options, method)
    _check_kinds(config)
    for key in ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        check_given(key, config.get(key))
    for key in ('test_cfg', 'data_preprocessor'):
        check_given(f'model.{key}', config.model.get(key, {'': ''}))
    _check_datasets(config)
    if not isinstance(config.source, str | list | tuple):
        raise ValueError(f"source is {config.source!r:.60}; expected 'name:split', or a list")
    if not isinstance(config.source, str):
        config.source = str(domains.Source.of(config.source, config.get('mixing')))
    _state_part(config)
    state_protocol(config)
    stated = config.get('model_name') if _states(path, 'model_name') else None
    asked = name or dict(options or {}).get('model_name') or stated
    config.model_name = str(asked or Path(path).stem)
    if method and not name:
        config.model_name += f'-{method}'
    check_name(config.model_name)
    _state_data(config, data_root, skip_lists)
    if compile:
        config.compile_backbone = True
    tracking.add(config, track)
    if amp:
        import torch

        on_gpu = torch.cuda.is_available()
        config.optim_wrapper.type = 'AmpOptimWrapper' if on_gpu else 'CPUAmpOptimWrapper'
    return config


def _state_data(config: Config, data_root: str | None, skip_lists: Sequence[str]) -> None:
    """Have every dataset of a config say where its files are, and the config who describes them."""
    names: list[str] = []
    for loader in filter(config.get, LOADERS):
        data = config[loader].dataset
        if data_root is not None:
            data.data_root = str(data_root)
        if skip_lists:
            data.skip_lists = [str(path) for path in skip_lists]
        if 'odd_pairs' in config:
            data.odd_pairs = config.odd_pairs
        if own.FILES:
            names += domain_names(data)
    if files := own.files_of(names):
        config.domain_files = files  # whoever opens the run finds its datasets


def _check_kinds(config: Config) -> None:
    """Raise ValueError for a part that is no dict, and for names that are no texts."""
    for key in ('model', 'optim_wrapper', 'auto_scale_lr', 'fine_tuned'):
        if not isinstance(value := config.get(key), Mapping | None):
            raise ValueError(f'{key} is {value!r:.60}; expected a dict, as in configs/_base_')
    scope, source = config.get('default_scope', ''), config.source
    if not isinstance(scope, str):
        raise ValueError(f"default_scope is {scope!r:.60}; expected 'mmseg'")
    if isinstance(source, list | tuple) and not all(isinstance(one, str) for one in source):
        raise ValueError(f"source is {source!r:.60}; expected 'name:split', or a list of these")


def check_name(name: str) -> str:
    """Return a model's name. Raises ValueError for one that files and folders cannot have."""
    if not name or name.startswith('.') or len(name) > 150 or re.search(r'[/\\\x00-\x1f]', name):
        raise ValueError(
            f'the name of the model is {name!r:.80}; expected at most 150 characters, without '
            'slashes and no dot first, since its files are called by it. Give another with --name'
        )
    return name


def check_given(key: str, value: Any) -> None:
    """Raise ValueError for a part of a config that is None, or no part at all."""
    if not value or not isinstance(value, Mapping | list):
        raise ValueError(f'{key} is {value!r:.60}; expected a dict, as in configs/_base_')


def _check_datasets(config: Config) -> None:
    """Raise ValueError for a loader whose dataset names no domains: a wrapper around one, say."""
    for loader, key in zip(LOADERS, ('domain', 'domains', 'domains'), strict=True):
        if config[loader] is not None and not isinstance(config[loader], Mapping):
            raise ValueError(f'{loader} is {config[loader]!r:.60}; expected a dict, or None')
        data = (config[loader] or dict(dataset={key: None})).get('dataset')
        if not isinstance(data, Mapping) or key not in data:
            kind = data.get('type') if isinstance(data, Mapping) else data
            raise ValueError(
                f'{loader}.dataset is {kind!r:.60} without {key!r}; expected a DomainDataset (to '
                'train on) or CrossDomainDataset, not wrapped in another. Training goes over the '
                "data as often as it takes; several datasets are source = ['gta5:train', ...]"
            )
        if config[loader] and key == 'domains' and not isinstance(data[key], list | tuple):
            raise ValueError(
                f'{loader}.dataset.domains is {data[key]!r:.60}; expected a list of names'
            )


def _states(path: str | Path, name: str) -> bool:
    """Whether a config file itself, and not what it inherits from, gives a name a value."""
    if Path(path).suffix != '.py':
        return True
    body = ast.parse(disk.read(path)).body
    targets = (target for line in body if isinstance(line, ast.Assign) for target in line.targets)
    return any(getattr(target, 'id', None) == name for target in targets)


def read_config(
    path: str | Path,
    needed: Sequence[str],
    work_dir: str | None,
    launcher: str,
    options: Mapping[str, Any] | None,
    method: str | None = None,
) -> Config:
    """Read a config file that has the keys `needed`. Other arguments and errors: `load_config`."""
    check_file(path, 'config file')
    if Path(path).suffix not in _SUFFIXES:
        raise ValueError(f'{path} is no config; expected a file that ends with .py, .json or .yaml')
    _stack.name_distributions()
    try:
        with plainfiles.plain_files():
            config = Config.fromfile(str(path))
    except ImportError as error:  # of the package of a base, say
        raise _stack.StackError(f'{path}: {error}') from error
    except OSError:
        raise
    except Exception as error:  # it is Python, and may fail in any way
        what = ' '.join(str(error).split())
        raise ValueError(f'{path}: cannot be read ({type(error).__name__}: {what})') from error
    keys.check(path, config)
    if method:
        from .method import apply  # needs torch

        apply(config, method)  # before the options, which change what it sets
    _merge(config, options or {}, launcher)
    files = config.get('domain_files') or ()
    if not isinstance(files, list | tuple) or not all(isinstance(one, str) for one in files):
        raise ValueError(f'domain_files is {files!r:.60}; expected a list of file names')
    own.read_all(files)
    own.read_beside(path)
    absent = [key for key in needed if key not in config]
    if 'source' in absent and config.get('default_scope') == 'mmseg' and 'train_cfg' in config:
        raise NoSource(
            f"{path} names no source: it is in MMSegmentation's own form. ibnseg run train|test "
            'takes it as it is; for a comparison over domains inherit from one of configs/_base_'
        )
    if absent:
        raise ValueError(f'{path}: no {", ".join(absent)}; see configs/ for examples')
    config.launcher = launcher
    default = config.get('work_dir') or str(Path('work_dirs', *below_configs(path)))
    config.work_dir = work_dir or default
    return config


def _merge(config: Config, options: Mapping[str, Any], launcher: str) -> None:
    if (asked := options.get('launcher', launcher)) != launcher:
        raise ValueError(f'--cfg-options launcher={asked} has no effect; say --launcher {asked}')
    keys.merge(config, options)
    if any(str(key).partition('.')[0] == 'custom_imports' for key in options):
        try:  # MMEngine imports what a file names before it is changed.
            import_modules_from_strings(**config.custom_imports)
        except (ImportError, TypeError) as error:
            raise ValueError(f'custom_imports is {config.custom_imports}: {error}') from error


def check_file(path: str | Path, what: str) -> None:
    """Raise OSError where a file that the command line names is not there, or cannot be read."""
    if not Path(path).exists():
        raise FileNotFoundError(f'{path}: no such {what}')
    disk.opened(path).close()


def _state_part(config: Config) -> None:
    """Have `source` say which part is trained on, also where a dumped config said another one."""
    data = (config.train_dataloader or {}).get('dataset', {})
    if 'domain' not in data:
        return
    part = fraction, seed = data.get('fraction', 1), data.get('subset_seed', 0)
    if tuned := config.get('fine_tuned'):
        if part != (tuned['fraction'], tuned['subset_seed']):
            raise ValueError(
                f'the config is of a network fine-tuned on {100 * tuned["fraction"]:g} % (subset '
                f'{tuned["subset_seed"]}), its train_dataloader reads {100 * fraction:g} % (subset '
                f'{seed}). Leave these as they were, or begin another with ibnseg finetune'
            )
        return
    if isinstance(fraction, str):
        raise ValueError(f'train_dataloader.dataset.fraction is {fraction!r}; expected a number')
    config.source = domains.whole(config.source)
    if fraction != 1:
        config.source = domains.part(config.source, *part)


def state_protocol(config: Config) -> None:
    """Have the datasets say what the config's `protocol` says, also after --cfg-options.

    A published setting is for the test alone: a run validates as its own config says.
    """
    protocol = config.get('protocol')
    if protocol is None:
        return
    config.test_dataloader.dataset.protocol = protocol
    if not isinstance(protocol, str) and config.get('val_dataloader'):
        config.val_dataloader.dataset.protocol = protocol


def schedulers(config: Config) -> Sequence[dict[str, Any]]:
    """Return the `param_scheduler` of a config, which may be several, one or none."""
    given = config.get('param_scheduler') or []
    return [given] if isinstance(given, Mapping) else given


def stretch(config: Config, iterations: int) -> None:
    """Have a config train for another number of iterations, and its schedule follow.

    A warm-up that becomes shorter than two iterations is left away: it would end at its first rate.

    Raises ValueError for less than one.
    """
    if iterations < 1:
        raise ValueError(f'--iterations {iterations}: expected at least 1')
    before = config.train_cfg.max_iters
    for scheduler in schedulers(config):
        for key in ('begin', 'end'):
            if key in scheduler:
                scheduler[key] = round(scheduler[key] * iterations / before)
    config.train_cfg.max_iters = iterations
    if isinstance(config.get('param_scheduler'), list | tuple):
        config.param_scheduler = [
            one
            for one in config.param_scheduler
            if one.get('end', iterations) == iterations or one['end'] - one.get('begin', 0) > 1
        ]


def below_configs(path: str | Path) -> tuple[str, ...]:
    """Return the parts of a config's path below `configs/`, without suffix; else its name."""
    parts = Path(path).with_suffix('').parts
    return parts[parts.index('configs') + 1 :] if 'configs' in parts else parts[-1:]


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` words as MMEngine's `--cfg-options` does. Raises ValueError for others."""
    if wrong := [pair for pair in pairs if pair.find('=') < 1]:
        raise ValueError(f'--cfg-options: {wrong[0]!r} is not KEY=VALUE')
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction, default={})
    try:
        return parser.parse_args(['--options', *pairs] if pairs else []).options
    except (RecursionError, AssertionError) as error:
        raise ValueError(
            f'--cfg-options {" ".join(pairs):.200}: not readable; expected a number, a text or a '
            'list. A dict is given by its keys, as part.key=value'
        ) from error


def domain_names(data: Config) -> tuple[str, ...]:
    """Return the domains of a config's dataset, 'name:split' each."""
    if 'domains' in data:
        return tuple(':'.join((row.name, split)) for row, split in map(domains.parse, data.domains))
    return domains.Source.of(data.domain, data.get('mixing')).domains


def check_files(args: argparse.Namespace) -> None:
    """Raise FileNotFoundError where a config or checkpoint of a command line is not there.

    ValueError where they are swapped.
    """
    checkpoint = vars(args).get('checkpoint')
    is_config = [Path(path).suffix in _SUFFIXES for path in (args.config, checkpoint or '')]
    if is_config == [False, True]:
        command.turn_round(args, checkpoint, args.config)
    check_file(args.config, 'config file')
    if checkpoint:
        check_file(checkpoint, 'checkpoint')


def from_arguments(args: argparse.Namespace, **changed: Any) -> Config:
    """Return the config that a command line asks for; `changed` replaces some of its words."""
    given = vars(args) | changed
    check_files(argparse.Namespace(**given))
    keys = ('work_dir', 'data_root', 'name', 'amp', 'compile', 'launcher', 'skip_lists', 'track')
    keys += ('method',)
    return load_config(
        given['config'],
        options=parse_options(given['cfg_options']),
        **{key: given[key] for key in keys if key in given},
    )
