"""Writing a package from the folder of a run."""

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from .. import __version__, disk, domains, weights
from ..analysis import shown
from ..measure import matrices, records
from ..measure.records import Record
from ..text import clean
from ..train import keys
from ..train.config import LOADERS, load_config
from .card import card
from .files import CARD, CONFIG, MANIFEST, SCHEMA, WEIGHTS, check_types, sealed

#: Keys of a config that are of a place, or that import code.
_LEFT = (
    'work_dir',
    'launcher',
    'resume',
    'load_from',
    'custom_imports',
    'data_root',
    'domain_files',
)
#: What a checkpoint says of itself that a package keeps.
_META = ('iter', 'epoch', 'seed', 'score', 'metric', 'time', 'trained', 'dataset_meta')


def pack(
    run: str | Path,
    out: str | Path,
    licence: str = 'other',
    note: str = '',
    onnx: bool = False,
    data_root: str | None = None,
) -> dict[str, Any]:
    """Write a run's reported checkpoint and what was measured with it as a package.

    Args:
        run: work dir of `ibnseg train`, with its record.
        out: a folder that is not there.
        licence: of the weights, by its name on Hugging Face's hub.
        note: for the card.
        onnx: also write the network as ONNX, with its certificate over photos below `data_root`
            (default: the run's own).

    Returns the manifest.

    Raises:
        FileExistsError: `out` is there.
        FileNotFoundError, ValueError: no run, no record, or one that does not fit its checkpoint; a
            network that is not exported, or no photos.
    """
    run, out = Path(run), Path(out)
    if out.exists():
        raise FileExistsError(f'{out}: is there already; name another folder with --out')
    checkpoint = shown.selected(run)
    found = [(path, records.read(path)) for path in sorted(run.rglob('*.record.json'))]
    sha256 = disk.sha256(checkpoint)
    found = [one for one in found if one[1].provenance.get('checkpoint_sha256') == sha256]
    if not found:
        raise ValueError(f'{run}: no record of {checkpoint.name}; measure it with ibnseg test')
    with disk.new_folder(out.parent, out.name) as folder:
        if onnx:
            from ..inference.model import load
            from .onnx import add  # packages of an extra

            add(load(run, device='cpu'), folder, data_root)
        manifest = _fill(folder, run, checkpoint, sha256, found, licence, note)
        folder.chmod(0o755)
        folder.rename(out)
    return manifest


def _fill(
    folder: Path,
    run: Path,
    checkpoint: Path,
    sha256: str,
    found: list[tuple[Path, Record]],
    licence: str,
    note: str,
) -> dict[str, Any]:
    held = weights.read(checkpoint)
    state = weights.unwrapped(held['state_dict'])
    tensors = {key: value.contiguous().clone() for key, value in state.items()}
    save_file(tensors, folder / WEIGHTS, metadata=dict(format='pt'))
    (folder / WEIGHTS).chmod(0o644)  # as the others; safetensors writes for its owner alone
    config = _config(run)
    task = domains.task(config['test_dataloader']['dataset']['domains'])
    (folder / CONFIG).write_text(json.dumps(config, indent=1) + '\n', 'utf-8')
    check_types(folder / CONFIG, config)
    for path, _ in found:
        shutil.copyfile(path, folder / path.name)
        if (images := matrices.beside(path)).is_file():
            shutil.copyfile(images, folder / images.name)
    manifest = dict(
        schema=SCHEMA,
        model=found[0][1].model,
        source=found[0][1].source,
        ibnseg=__version__,
        checkpoint=checkpoint.name,
        checkpoint_sha256=sha256,
        licence=clean(licence),
        classes=list(task.classes),
        palette=task.palette.tolist(),
        records=sorted(path.name for path, _ in found),
        meta={key: held['meta'][key] for key in _META if key in held['meta']},
    )
    text = card(manifest, [record for _, record in found], clean(note))
    (folder / CARD).write_text(text, 'utf-8')
    names = sorted(path.name for path in folder.iterdir())
    manifest['files'] = {name: disk.sha256(folder / name) for name in names}
    (folder / MANIFEST).write_bytes(sealed(manifest))
    return manifest


def _config(run: Path) -> dict[str, Any]:
    """Return what a package keeps of a run's config, as JSON holds it, without its folders."""
    whole = load_config(shown.config_of(run))
    kept = {
        key: value
        for key, value in whole.to_dict().items()
        if key in keys.RUNNER | keys.OURS | {'test_pipeline'} and key not in _LEFT
    }
    plain = json.loads(json.dumps(kept))
    for loader in LOADERS:
        if (plain.get(loader) or {}).get('dataset'):
            plain[loader]['dataset'] |= dict(data_root='data', skip_lists=[])
    return _without(plain, ('init_cfg', 'pretrained'))


def _without(value: Any, keys: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, keys) for key, one in value.items() if key not in keys}
    return [_without(one, keys) for one in value] if isinstance(value, list) else value
