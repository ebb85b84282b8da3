"""MMDetection with an IBN backbone: its parts, and train and test as real processes."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from .processes import ROOT, begun, need, run

need('mmdet', 'mmcv.ops')

from ibnseg_tools import run as tool  # noqa: E402
from mmdet.datasets import CocoDataset  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.utils import register_all_modules  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from ibnseg import weights  # noqa: E402

CONFIG = 'configs/detection/ibn_a_faster_rcnn_coco.py'
TINY = [
    'model.backbone.depth=18',
    'model.backbone.init_cfg=None',
    'model.backbone.frozen_stages=-1',
    'model.backbone.norm_eval=False',
    'model.backbone.zero_init_residual=False',
    'model.neck.in_channels=[64,128,256,512]',
    'model.neck.out_channels=32',
    'model.rpn_head.in_channels=32',
    'model.rpn_head.feat_channels=32',
    'model.roi_head.bbox_roi_extractor.out_channels=32',
    'model.roi_head.bbox_head.in_channels=32',
    'model.roi_head.bbox_head.fc_out_channels=64',
]
RUN = [
    *TINY,
    'train_dataloader.dataset.pipeline.2.scale=(96,96)',
    'test_dataloader.dataset.pipeline.1.scale=(96,96)',
    'val_dataloader.dataset.pipeline.1.scale=(96,96)',
    'train_dataloader.num_workers=2',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'train_cfg.max_epochs=2',
    'model.test_cfg.rcnn.score_thr=0.0',  # of a network that has learnt nothing, all boxes
]


def draw(folder, name, count, generator):
    """Bright boxes on noise in COCO's layout: people are red and tall, cars blue and wide."""
    images, annotations = [], []
    (folder / name).mkdir(parents=True)
    (folder / 'annotations').mkdir(exist_ok=True)
    for i in range(1, count + 1):
        photo = generator.integers(0, 90, (96, 96, 3), np.uint8)
        for category, (w, h), channel in ((1, (20, 44), 0), (3, (44, 20), 2)):
            x, y = (int(generator.integers(1, 95 - side)) for side in (w, h))
            photo[y : y + h, x : x + w, channel] = 255
            annotations.append(
                dict(id=len(annotations) + 1, image_id=i, category_id=category, iscrowd=0,
                     bbox=[x, y, w, h], area=w * h)
            )  # fmt: skip
        images.append(dict(id=i, file_name=f'{i:012}.jpg', width=96, height=96))
        Image.fromarray(photo).save(folder / name / images[-1]['file_name'], quality=95)
    names = CocoDataset.METAINFO['classes']
    categories = [dict(id=i, name=name) for i, name in enumerate(names, 1)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (folder / 'annotations' / f'instances_{name}.json').write_text(json.dumps(content))


@pytest.fixture(scope='session')
def coco(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data') / 'coco'
    generator = np.random.default_rng(0)
    draw(folder, 'train2017', 4, generator)
    draw(folder, 'val2017', 3, generator)
    return folder


def train(coco, work_dir, *options, **kwargs):
    flags = [word for word in options if word.startswith('--')]
    pairs = [word for word in options if not word.startswith('--')]
    return run(
        'train', CONFIG, '--data-root', coco, '--work-dir', work_dir, *flags,
        '--cfg-options', *RUN, *pairs, **kwargs,
    )  # fmt: skip


@pytest.fixture(scope='session')
def trained(coco, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('runs') / 'whole'
    return work_dir, train(coco, work_dir)


@pytest.fixture(scope='module')
def detector():
    register_all_modules()
    config = Config.fromfile(ROOT / CONFIG)
    assert config.model.backbone.init_cfg.checkpoint == 'ibn://resnet50_ibn_a'
    with DefaultScope.overwrite_default_scope('mmdet'):
        from mmdet.registry import MODELS

        options = dict(option.split('=', 1) for option in TINY)
        config.merge_from_dict({key: json.loads(_json(v)) for key, v in options.items()})
        torch.manual_seed(0)
        model = MODELS.build(config.model)
        model.init_weights()
    return model


def _json(text):
    return {'None': 'null', 'False': 'false', 'True': 'true'}.get(text, text)


def sample(boxes, labels):
    made = DetDataSample(
        metainfo=dict(
            img_shape=(64, 96), ori_shape=(64, 96), pad_shape=(64, 96), scale_factor=(1.0, 1.0)
        )
    )
    made.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes).float().reshape(-1, 4), labels=torch.tensor(labels).long()
    )
    return made


def test_backbone_and_pyramid(detector):
    maps = detector.extract_feat(torch.rand(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (1, 32, 16, 24), (1, 32, 8, 12), (1, 32, 4, 6), (1, 32, 2, 3), (1, 32, 1, 2),
    ]  # fmt: skip
    from ibnseg.norms import IBN

    assert sum(isinstance(m, IBN) for m in detector.backbone.modules()) == 6  # layer1-3 of R18


def test_loss_reaches_the_stem(detector):
    detector.train()
    samples = [sample([[8, 8, 40, 50]], [0]), sample([[4, 4, 60, 30], [50, 20, 90, 60]], [2, 0])]
    losses = detector.loss(torch.rand(2, 3, 64, 96), samples)
    total, parts = detector.parse_losses(losses)
    assert {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox'} <= set(parts)
    assert torch.isfinite(total)
    detector.zero_grad()
    total.backward()
    for name in ('conv1.weight', 'layer1.0.bn1.IN.weight', 'layer1.0.bn1.BN.weight'):
        assert detector.backbone.get_parameter(name).grad.abs().sum() > 0, name


def test_prediction_lies_in_the_image(detector):
    detector.eval()
    with torch.no_grad():
        (found,) = detector.predict(torch.rand(1, 3, 64, 96), [sample([], [])])
    boxes, scores = found.pred_instances.bboxes, found.pred_instances.scores
    assert len(boxes) == len(scores)
    assert ((boxes >= 0) & (boxes <= torch.tensor([96, 64, 96, 64]))).all()
    assert ((scores > 0.05) & (scores <= 1)).all()  # the config's threshold


def test_compiled_ops_are_right():
    """The wheel was built against another torch; its numbers must hold all the same."""
    from mmcv.ops import nms, roi_align

    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]])
    kept, index = nms(boxes, torch.tensor([0.5, 0.9, 0.7]), 0.5)
    assert index.tolist() == [1, 2]
    torch.testing.assert_close(kept[:, 4], torch.tensor([0.9, 0.7]))
    ramp = torch.arange(8.0).repeat(1, 1, 8, 1).requires_grad_()
    pooled = roi_align(ramp, torch.tensor([[0.0, 1, 1, 5, 5]]), (2, 2), 1.0, 2, 'avg', True)
    # Bins of a linear ramp hold the value at their centres: x = 2 and 4, less half a pixel.
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[1.5, 3.5], [1.5, 3.5]]))
    pooled.sum().backward()
    torch.testing.assert_close(ramp.grad.sum(), torch.tensor(4.0))


def test_train_says_what_a_person_needs(trained):
    work_dir, done = trained
    assert done.stderr == ''
    lines = done.stdout.splitlines()
    assert lines[0].startswith('train 1/4  loss ')
    assert sum('validation after epoch' in line and 'bbox_mAP' in line for line in lines) == 2
    assert lines[-2] == f'checkpoint  {work_dir / "epoch_2.pth"}'
    assert len(lines) == 8, done.stdout
    assert [path.name for path in work_dir.glob('*.pth*')] == ['epoch_2.pth']
    assert 'Iter(train)' not in done.stdout
    log = next(work_dir.rglob('*.log')).read_text()
    assert 'loss_rpn_cls' in log
    assert 'creating index' in log  # pycocotools prints that


def test_test_finds_what_training_validated(trained, coco, tmp_path):
    work_dir, trained_process = trained
    done = run(
        'test', CONFIG, work_dir / 'epoch_2.pth', '--data-root', coco, '--work-dir', tmp_path,
        '--cfg-options', *RUN,
    )  # fmt: skip
    assert done.stderr == ''
    result = json.loads((tmp_path / 'test' / 'metrics.json').read_text())
    last = [line for line in trained_process.stdout.splitlines() if 'validation' in line][-1]
    for name, value in result['metrics'].items():
        assert f'{name} {value:.4g}' in last
        assert f'{value:.4g}' in next(x for x in done.stdout.splitlines() if x.startswith(name))
    assert (result['epoch'], result['images'], result['seed']) == (2, 3, 0)
    assert -1 <= result['metrics']['coco/bbox_mAP'] <= 1


def test_resumed_run_ends_with_the_same_weights(trained, coco, tmp_path):
    work_dir, _ = trained
    # Their schedules agree: the milestones are later epochs.
    half = train(coco, tmp_path, 'train_cfg.max_epochs=1')
    assert 'epoch_1.pth' in half.stdout
    train(coco, tmp_path, '--resume')
    whole, resumed = (weights.read(f / 'epoch_2.pth') for f in (work_dir, tmp_path))
    assert whole['state_dict'].keys() == resumed['state_dict'].keys()
    for key, tensor in whole['state_dict'].items():
        assert torch.equal(tensor, resumed['state_dict'][key]), key


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        (['train', 'configs/detection/none.py'], 'no such config file'),
        (['train', CONFIG, '--cfg-options', 'x'], "'x' is not KEY=VALUE"),
        (['train', CONFIG, '--data-root', '/nowhere'], '/nowhere/annotations/instances_train'),
        (['test', CONFIG, '/nowhere/epoch_1.pth'], '/nowhere/epoch_1.pth: no such checkpoint'),
        (['train', CONFIG, '--resume', '--work-dir', '/nowhere'], '--resume: no epoch_*.pth'),
        (
            ['train', CONFIG, '--cfg-options', 'train_cfg.type=IterBasedTrainLoop'],
            'ibnseg run trains by epochs',
        ),
        (['train', 'configs/miniature/ibn_b.py'], 'ibnseg run trains by epochs'),
    ],
)
def test_bad_input_ends_with_one_line(words, says, tmp_path, capsys):
    if '--work-dir' not in words:
        words = [*words, '--work-dir', str(tmp_path)]
    assert tool.main(words) == 2
    said = capsys.readouterr()
    assert said.out == ''
    assert said.err.count('\n') == 1
    assert said.err.startswith('error: ')
    assert says in said.err


def test_a_run_is_not_overwritten(tmp_path, capsys):
    torch.save(begun(), tmp_path / 'epoch_1.pth')
    assert tool.main(['train', CONFIG, '--work-dir', str(tmp_path)]) == 2
    assert 'holds a run already (epoch_1.pth)' in capsys.readouterr().err
    words = ['train', CONFIG, '--work-dir', str(tmp_path), '--resume', '--seed', '7']
    assert tool.main(words) == 2
    assert 'trained with seed 0' in capsys.readouterr().err
