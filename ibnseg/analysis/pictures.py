"""One photo, its ground truth and the predictions of several runs, side by side."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS, MODELS
from PIL import Image, ImageDraw

from .. import disk, domains, labels, registered, weights  # noqa: F401
from ..measure import records, selection
from ..measure.confusion import confusion, score
from ..pipeline import photos
from ..train.checkpoint import chosen

_GAP, _CAPTION = 4, 16


def selected(run: str | Path) -> Path:
    """Return the checkpoint in a run's record; without a record, the one its rule selects now.

    Args:
        run: work dir of `ibnseg train`.

    Raises:
        FileNotFoundError: no run, or its record's checkpoint is gone.
        ValueError: the checkpoint is not the file that was measured.
    """
    run = Path(run)
    for path in sorted(run.glob('*.record.json')):
        facts = records.read(path).provenance
        checkpoint = run / Path(str(facts.get('checkpoint'))).name
        if not checkpoint.is_file():
            raise FileNotFoundError(f'{checkpoint}: no such file, but {path} is of this checkpoint')
        if disk.sha256(checkpoint) != facts.get('checkpoint_sha256'):
            raise ValueError(
                f'{checkpoint} is not the file that {path} was measured with. Measure it again '
                '(ibnseg test)'
            )
        return checkpoint
    found = chosen(run, selection.find(_config(run).get('select') or 'source'))
    if found is None:
        raise FileNotFoundError(f'{run}: no checkpoint of ibnseg train (*iter_*.pth)')
    return found


def _config(run: Path) -> Config:
    configs = sorted(run.glob('*.py'))
    if not configs:
        raise FileNotFoundError(f'{run}: no run of ibnseg train, which keeps its config (*.py)')
    return Config.fromfile(configs[0])


@torch.no_grad()
def _predict(config: Config, checkpoint: Path, index: int) -> np.ndarray:
    config.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config.model).eval()
        model.load_state_dict(weights.read(checkpoint)['state_dict'])
        sample = DATASETS.build(config.test_dataloader.dataset)[index]
    batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
    return model.test_step(batch)[0].pred_sem_seg.data[0].numpy().astype(np.uint8)


def panel(
    runs: Sequence[str | Path], domain: str, data_root: str | Path, index: int, out: str | Path
) -> None:
    """Write a PNG: photo, ground truth and the prediction of each run, with its name and mIoU.

    The runs' configs are Python and are run as such.

    Raises:
        DataError: see `domains.use`. ValueError: no such image. Others: see `selected`.
    """
    pairs = domains.use(domain, data_root).pairs
    if not 0 <= index < len(pairs):
        raise ValueError(f'image {index}: {domain} has images 0 to {len(pairs) - 1}')
    row, _ = domains.parse(domain)
    path = pairs[index][0]
    photo = photos.read(path.read_bytes(), path, labelled=True)[..., ::-1]
    truth = domains.read_labels(pairs[index][1], row.space)
    task = labels.task(row.space)
    colours = np.zeros((256, 3), np.uint8)  # ignored is black
    colours[: len(task.palette)] = task.palette
    tiles = [(f'photo ({domain})', photo), ('ground truth', colours[truth])]
    for run in map(Path, runs):
        config = _config(run)
        # By the number among all images: what the test left out is here.
        one = dict(domains=[domain], data_root=str(data_root), skip_lists=())
        config.test_dataloader.dataset.update(one)
        prediction = _predict(config, selected(run), index)
        miou = score(confusion(truth, prediction, len(task.classes))).miou
        prediction[truth == labels.IGNORE] = labels.IGNORE  # what does not count is not shown
        name = config.get('model_name') or run.name  # as in reports
        tiles.append((f'{name}: mIoU {100 * miou:.1f} on this image', colours[prediction]))
    height, width = truth.shape
    rows = -(-len(tiles) // 2)
    sheet = Image.new('RGB', (2 * width + _GAP, rows * (height + _CAPTION + _GAP)), 'white')
    draw = ImageDraw.Draw(sheet)
    for i, (caption, tile) in enumerate(tiles):
        x, y = i % 2 * (width + _GAP), i // 2 * (height + _CAPTION + _GAP)
        draw.text((x + 2, y + 2), caption, fill='black')
        sheet.paste(Image.fromarray(tile), (x, y + _CAPTION))
    content = io.BytesIO()
    sheet.save(content, format='PNG')
    disk.write_atomically(out, content.getvalue())
