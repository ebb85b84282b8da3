"""The images of a step: the config's, or stated; and what two processes train."""

import re

import pytest
from mmengine.config import Config
from test_tools import ROOT, TINY, data, run  # noqa: F401

from ibnseg import weights
from ibnseg.train import batch


def config(images=16, times=1, **scale) -> Config:
    wrapper = dict(accumulative_counts=times) if times > 1 else {}
    return Config(
        dict(train_dataloader=dict(batch_size=images), optim_wrapper=wrapper, auto_scale_lr=scale)
    )


@pytest.mark.parametrize(
    ('given', 'processes', 'total', 'said'),
    [
        (config(), 1, 16, ''),
        (config(4, base_batch_size=16), 4, 16, 'batch: 4 processes x 4 images = 16 a step\n'),
        (config(8, 2), 1, 16, 'batch: 8 images x 2 accumulated = 16 a step\n'),
        (
            config(16, enable=True, base_batch_size=16), 8, 128,
            'batch: 8 processes x 16 images = 128 a step; learning rate x 8 (auto_scale_lr)\n',
        ),
    ],
)  # fmt: skip
def test_what_the_config_says_is_taken(given, processes, total, said, capsys):
    assert batch.check(given, processes) == total
    assert capsys.readouterr().out == said


@pytest.mark.parametrize('given', [config(), config(4, 4), config(16, base_batch_size=16)])
def test_other_images_a_step_are_refused_until_they_are_stated(given):
    processes = 4
    with pytest.raises(ValueError, match=r'= 64 images a step, .* is for 16\. ') as error:
        batch.check(given, processes)
    assert 'multiplies the rate by 4;' in str(error.value)
    for option in re.findall(r'([a-z_]+\.[a-z_.]+=\d+) (?:keeps|takes)', str(error.value)):
        key, value = option.split('=')
        changed = Config(given.to_dict())
        changed.merge_from_dict({key: int(value)})
        assert batch.check(changed, processes, [option]) in (16, 64)


def test_a_batch_that_does_not_divide_is_not_advised():
    with pytest.raises(ValueError, match='= 48 images') as error:
        batch.check(config(), 3)
    assert 'batch_size=5' not in str(error.value)


def test_a_rate_scaled_without_the_accumulated_is_refused():
    with pytest.raises(ValueError, match='does not count accumulative_counts'):
        batch.check(config(4, 4, enable=True, base_batch_size=16), 2)


def test_a_run_of_two_processes_is_refused_and_told_what_to_state(data, tmp_path):  # noqa: F811
    words = ['train.py', 'configs/miniature/ibn_b.py', '--data-root', data, '--work-dir', tmp_path]
    done = run(*words, processes=2, code=None)
    assert done.returncode and '2 processes x 8 images = 16 images a step' in done.stderr
    assert 'train_dataloader.batch_size=4 keeps 8' in done.stderr
    assert not [*tmp_path.glob('*.pth')]
    done = run('sweep.py', *words[1:], '--gpus', '2', code=2)
    assert '2 processes x 8 images = 16 images a step' in done.stderr


def test_two_processes_train_what_one_does_with_as_many_images(data, tmp_path):  # noqa: F811
    """But for the loss, a mean over the labelled pixels of each process.

    Without BatchNorm, which on CPUs has statistics of each process alone.
    """
    own = tmp_path / 'own.py'
    own.write_text(
        f"_base_ = '{ROOT}/configs/miniature/resnet18.py'\n"
        "norm = dict(type='GN', num_groups=4, requires_grad=True)\n"
        'model = dict(backbone=dict(norm_cfg=norm), decode_head=dict(norm_cfg=norm))\n'
    )
    found = []
    for processes, images in ((0, 4), (2, 2)):
        out = tmp_path / str(processes)
        words = ['train.py', own, '--data-root', data, '--work-dir', out, '--cfg-options', *TINY]
        run(*words, f'train_dataloader.batch_size={images}', processes=processes)
        found.append(weights.read(out / 'iter_4.pth')['state_dict'])
    one, two = found
    half = weights.read(out / 'iter_2.pth')['state_dict']
    assert one.keys() == two.keys()
    for key in one:
        apart, moved = (one[key] - two[key]).norm(), (two[key] - half[key]).norm()
        assert apart <= 0.2 * moved and moved > 0, (key, apart, moved)
