"""Re-identification in MMDetection's ReID model, on miniatures in the datasets' layouts."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from .processes import ROOT, need, run

need('mmdet', 'mmcv.ops', 'mmpretrain', 'torchvision')

from ibnseg_tools import run as tool  # noqa: E402
from mmdet.models.reid import BaseReID  # noqa: E402
from mmdet.registry import DATASETS, MODELS, TRANSFORMS  # noqa: E402
from mmdet.structures import ReIDDataSample  # noqa: E402
from mmdet.utils import register_all_modules  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.dataset import DefaultSampler, pseudo_collate  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

from ibnseg import weights  # noqa: E402
from ibnseg.plugins import reid  # noqa: E402

#: What each dataset calls the photo of a person by a camera.
NAMES = {
    'market1501': lambda who, camera, i: f'{who:04}_c{camera}s1_{i:06}_00.jpg',
    'dukemtmc': lambda who, camera, i: f'{who:04}_c{camera}_f{i:07}.jpg',
}
CLASSES = {'market1501': reid.Market1501, 'dukemtmc': reid.DukeMTMCReID}
TINY = [
    'model.backbone.depth=18',
    'model.backbone.init_cfg=None',
    'model.head.in_channels=512',
    'model.head.num_classes=4',
    'train_dataloader.batch_size=8',
    'train_dataloader.num_workers=2',
    'test_dataloader.batch_size=5',
    'test_dataloader.num_workers=0',
    'val_dataloader.batch_size=5',
    'val_dataloader.num_workers=0',
    'train_dataloader.dataset.pipeline.1.scale=(16,32)',
    'train_dataloader.dataset.pipeline.3.crop_size=(32,16)',
    'train_dataloader.dataset.pipeline.3.padding=2',
    'test_dataloader.dataset.pipeline.1.scale=(16,32)',
    'val_dataloader.dataset.pipeline.1.scale=(16,32)',
    'param_scheduler.0.end=2',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=2',
]


def draw(folder, name, who, cameras, start=0):
    """A person is a colour of clothes, a camera a brightness; -1 and 0 are anyone."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, camera in enumerate(cameras):
        colours = np.random.default_rng((who + 1, 0)).integers(60, 255, (2, 1, 1, 3))
        photo = np.broadcast_to(colours.repeat(32, 0).reshape(64, 1, 3), (64, 32, 3))
        noise = np.random.default_rng((who + 1, camera, i)).normal(0, 12, photo.shape)
        photo = (photo * (0.7 + 0.1 * camera) + noise).clip(0, 255).astype(np.uint8)
        file = name(who, camera, start + i)
        if who == -1:
            file = file.replace('-001', '-1')
        Image.fromarray(photo).save(folder / file)


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    for key, name in NAMES.items():
        folder = root / CLASSES[key].folder
        for who in (2, 7, 10, 11):
            draw(folder / 'bounding_box_train', name, who, [1, 1, 2, 3, 3])
        for who in (1, 5, 6):
            draw(folder / 'query', name, who, [1, 2])
            draw(folder / 'bounding_box_test', name, who, [1, 2, 3], start=100)
        if key == 'market1501':
            draw(folder / 'bounding_box_test', name, 0, [1, 3], start=200)
            draw(folder / 'bounding_box_test', name, -1, [2], start=300)
    return root


def build(kind, data, split):
    with DefaultScope.overwrite_default_scope('mmdet'):
        kwargs = dict(split=split, data_root=str(data), pipeline=[])
        return DATASETS.build(dict(type=CLASSES[kind].__name__, **kwargs))


@pytest.mark.parametrize('kind', NAMES)
def test_training_people_are_numbered_from_0(kind, data):
    dataset = build(kind, data, 'train')
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [int(info['gt_label']) for info in infos] == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    assert [info['camera'] for info in infos[:5]] == [1, 1, 2, 3, 3]
    assert infos[5]['img_path'].endswith(NAMES[kind](7, 1, 0))


@pytest.mark.parametrize(('kind', 'gallery'), [('market1501', 12), ('dukemtmc', 9)])
def test_queries_come_before_the_gallery(kind, gallery, data):
    dataset = build(kind, data, 'test')
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    assert [info['query'] for info in infos] == [True] * 6 + [False] * gallery
    assert [int(info['gt_label']) for info in infos[:6]] == [1, 1, 5, 5, 6, 6]
    strangers = sorted(int(i['gt_label']) for i in infos if int(i['gt_label']) < 1)
    assert strangers == ([-1, 0, 0] if kind == 'market1501' else [])


@pytest.mark.parametrize('kind', NAMES)
def test_what_is_not_the_layout_is_named(kind, tmp_path):
    folder = tmp_path / CLASSES[kind].folder
    with pytest.raises(ValueError, match=r'bounding_box_train: no such folder\. Expected'):
        build(kind, tmp_path, 'train')
    (folder / 'bounding_box_train').mkdir(parents=True)
    with pytest.raises(ValueError, match=r'bounding_box_train: no \.jpg file'):
        build(kind, tmp_path, 'train')
    (folder / 'bounding_box_train' / 'holiday.jpg').touch()
    with pytest.raises(ValueError, match=r'holiday\.jpg: not a name of .* expected one like 000'):
        build(kind, tmp_path, 'train')
    with pytest.raises(ValueError, match="split is 'val'; choose from"):
        build(kind, tmp_path, 'val')


def config_of(name='ibn_a_market1501', *options):
    config = Config.fromfile(ROOT / 'configs' / 'reid' / f'{name}.py')
    config.merge_from_dict(tool_options([*TINY, *options]))
    return config


def tool_options(pairs):
    from ibnseg.train.config import parse_options

    return parse_options(pairs)


@pytest.mark.parametrize('path', sorted((ROOT / 'configs/reid').glob('*.py')), ids=lambda p: p.stem)
def test_config_is_the_strong_baselines(path):
    register_all_modules()
    config = Config.fromfile(path)
    assert f'configs/reid/{path.name}' in path.read_text()
    plain, market = 'resnet50' in path.stem, 'market' in path.stem
    with DefaultScope.overwrite_default_scope('mmdet'):
        assert config.model.backbone.init_cfg.checkpoint.endswith(
            'resnet50' if plain else 'resnet50_ibn_a'
        )
        model = MODELS.build(config.model)
        for loader in ('train', 'val', 'test'):
            dataset = config[f'{loader}_dataloader'].dataset
            assert DATASETS.get(dataset.type) is CLASSES['market1501' if market else 'dukemtmc']
    assert isinstance(model, BaseReID)
    assert model.head.num_classes == (751 if market else 702)
    assert any('IN' in n for n, _ in model.backbone.named_modules()) is not plain
    model.eval()
    with torch.no_grad():
        (last,) = model.backbone(torch.rand(1, 3, 256, 128))
        assert last.shape == (1, 2048, 16, 8)  # stride 16
        (feature,) = model.extract_feat(torch.rand(1, 3, 32, 16))
    assert feature.shape == (1, 2048)


def test_colours_reach_the_network_as_rgb(data):
    model = build_model()
    photo = dict(img=np.zeros((32, 16, 3), np.uint8), gt_label=np.array(0), camera=1, query=False)
    photo['img'][..., 0] = 255  # blue, as cv2 reads
    photo |= dict(img_path='', ori_shape=0, img_shape=0, scale=0, scale_factor=0)
    packed = TRANSFORMS.build(dict(type='PackPerson', _scope_='mmdet'))(photo)
    batch = model.data_preprocessor(pseudo_collate([packed, packed]), training=True)
    assert batch['inputs'].shape == (2, 3, 32, 16)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    expected = (torch.tensor([0.0, 0, 255]) - mean) / std
    torch.testing.assert_close(batch['inputs'][1, :, 5, 5], expected)


def build_model():
    register_all_modules()
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(config_of().model)


def people(*labels):
    return [ReIDDataSample().set_gt_label(label) for label in labels]


def test_head_is_a_bnneck():
    torch.manual_seed(0)
    head = build_model().head
    head.init_weights()
    features = torch.randn(4, 512)
    losses = head.loss((features,), people(0, 0, 3, 3))
    distance = torch.cdist(features, features)
    hardest = [
        max(distance[i, i ^ 1] - distance[i, 2 if i < 2 else 0],
            distance[i, i ^ 1] - distance[i, 3 if i < 2 else 1])
        for i in range(4)
    ]  # fmt: skip
    expected = sum(max(0, 0.3 + d) for d in hardest) / 4
    torch.testing.assert_close(losses['loss_triplet'], torch.as_tensor(expected))
    normed = (features - features.mean(0)) / (features.var(0, unbiased=False) + 1e-5).sqrt()
    log = (normed @ head.classifier.weight.T).log_softmax(1)
    smooth = 0.9 * -log[range(4), [0, 0, 3, 3]].mean() - 0.1 * log.mean()
    torch.testing.assert_close(losses['loss_cls'], smooth)
    assert not head.bottleneck.bias.requires_grad
    assert head.classifier.bias is None

    head.eval()
    found = head.predict((features,), people(0, 0, 3, 3))
    normed = (features - head.bottleneck.running_mean) / (head.bottleneck.running_var + 1e-5).sqrt()
    for sample, row in zip(found, normed, strict=True):
        torch.testing.assert_close(sample.pred_feature, row / row.norm(), atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match=r'person 4, counted from 0; the head knows 4\. Set'):
        head.loss((features,), people(0, 0, 4, 4))


def sampler(counts, batch_size, photos=4, seed=0):
    starts = np.cumsum([0, *counts])
    owned = {who: np.arange(*starts[who : who + 2]) for who in range(len(counts))}
    dataset = SimpleNamespace(index_dic=owned, __len__=lambda: starts[-1])
    base = SimpleNamespace(dataset=dataset, seed=seed, epoch=0)
    owner = np.repeat(np.arange(len(counts)), counts)
    return reid.IdentityBatchSampler(base, batch_size, photos), owner


def test_batches_have_p_people_with_k_photos():
    drawn, owner = sampler([9, 2, 4, 13, 8, 4, 5], batch_size=12)
    batches = list(drawn)
    assert len(batches) == len(drawn) == (2 + 1 + 1 + 3 + 2 + 1 + 1) // 3
    for batch in batches:
        people, counts = np.unique(owner[batch], return_counts=True)
        assert (len(people), set(counts)) == (3, {4})
        for who in people:
            own = [i for i in batch if owner[i] == who]
            assert len(set(own)) == min(4, (owner == who).sum())
    assert list(drawn) == batches
    drawn.sampler.epoch = 1
    assert list(drawn) != batches


def test_who_has_more_photos_is_drawn_more_often():
    drawn, owner = sampler([16] * 10 + [8] * 10, batch_size=16)
    times = np.zeros(20)
    for epoch in range(60):
        drawn.sampler.epoch = epoch
        for batch in drawn:
            times += np.bincount(owner[batch], minlength=20)
    assert 1.6 < times[:10].mean() / times[10:].mean() <= 2
    assert times[10:].max() < 1.2 * times[10:].min()


def test_batches_that_can_not_be_drawn_are_refused():
    with pytest.raises(ValueError, match='batch_size is 10; expected a multiple of 4'):
        sampler([4, 4, 4], 10)
    with pytest.raises(ValueError, match='batches of 4 people with 4 photos each can not be drawn'):
        sampler([4, 4, 4], 16)


def test_ranks_draw_different_people(monkeypatch):
    drawn, _ = sampler([8] * 8, batch_size=8)
    alone = list(drawn)
    halves = []
    for rank in (0, 1):
        monkeypatch.setattr(reid, 'get_dist_info', lambda rank=rank: (rank, 2))
        halves.append(list(drawn))
        assert len(halves[-1]) == len(alone) // 2
    assert halves[0] != halves[1]


def test_mmengines_sampler_has_what_it_needs(data):
    dataset = build('market1501', data, 'train')
    drawn = reid.IdentityBatchSampler(DefaultSampler(dataset, seed=3), batch_size=8)
    assert all(len(batch) == 8 for batch in drawn)


def options(data, work_dir, *pairs):
    return ['--data-root', data, '--work-dir', work_dir, '--cfg-options', *TINY, *pairs]


@pytest.fixture(scope='session', params=NAMES)
def trained(request, data, tmp_path_factory):
    config = f'configs/reid/ibn_a_{request.param}.py'
    work_dir = tmp_path_factory.mktemp('runs') / request.param
    return config, work_dir, run('train', config, *options(data, work_dir))


@pytest.fixture(scope='session')
def tested(trained, data, tmp_path_factory):
    """(config, checkpoint, finished training, finished test, metrics)."""
    config, work_dir, training = trained
    out = tmp_path_factory.mktemp('tested')
    done = run('test', config, work_dir / 'epoch_2.pth', *options(data, out))
    return config, work_dir / 'epoch_2.pth', training, done, metrics_of(out)


def metrics_of(work_dir):
    return json.loads((work_dir / 'test' / 'metrics.json').read_text())['metrics']


def test_train_and_test_print_rank_1_and_map(tested):
    _, _, training, done, metrics = tested
    assert (training.stderr, done.stderr) == ('', '')
    lines = training.stdout.splitlines()
    assert lines[0].startswith('train 1/4  loss ')
    (validated,) = [line for line in lines if line.startswith('validation after epoch 2: mAP ')]
    assert {'mAP', 'rank-1', 'rank-5', 'rank-10'} < set(metrics)
    assert (metrics['queries'], metrics['without answer']) == (6, 0)
    assert 0 < metrics['mAP'] <= 100
    for name, value in metrics.items():
        assert f'{name} {value:.4g}' in validated
        assert f'{value:.4g}' in next(x for x in done.stdout.splitlines() if x.startswith(name))


def test_two_processes_measure_the_same(tested, data, tmp_path):
    config, checkpoint, _, _, metrics = tested
    if 'duke' in config:
        pytest.skip('one dataset will do')
    words = ['--launcher', 'pytorch', *options(data, tmp_path)]
    run('test', config, checkpoint, *words, processes=2)
    assert metrics_of(tmp_path) == metrics


def test_resumed_run_ends_with_the_same_weights(trained, data, tmp_path):
    config, work_dir, _ = trained
    if 'duke' in config:
        pytest.skip('one dataset will do')
    run('train', config, *options(data, tmp_path, 'train_cfg.max_epochs=1'))
    run('train', config, '--resume', *options(data, tmp_path))
    whole, resumed = (weights.read(f / 'epoch_2.pth') for f in (work_dir, tmp_path))
    for key, tensor in whole['state_dict'].items():
        assert torch.equal(tensor, resumed['state_dict'][key]), key


@pytest.mark.parametrize(
    ('pairs', 'says'),
    [
        (['train_dataloader.batch_size=10'], 'expected a multiple of 4'),
        (['model.head.num_classes=2'], 'the head knows 2'),
    ],
)
def test_bad_input_ends_with_one_line(pairs, says, data, tmp_path, capsys):
    words = options(str(data), str(tmp_path), *pairs, 'train_dataloader.num_workers=0')
    assert tool.main(['train', 'configs/reid/ibn_a_market1501.py', *words]) == 2
    said = capsys.readouterr()
    assert said.err.startswith('error: ')
    assert said.err.count('\n') == 1
    assert says in said.err
