"""How many images a step of the optimiser has, and whether that is what the config says."""

from collections.abc import Sequence

from mmengine.config import Config

from ..command import say

_STATING = ('train_dataloader.batch_size', 'optim_wrapper.accumulative_counts', 'auto_scale_lr')


def check(config: Config, processes: int, options: Sequence[str] = ()) -> int:
    """Return the images of a step: processes x batch x accumulated gradients; say them if not one.

    The config says how many its learning rate is for: `auto_scale_lr.base_batch_size`, or its batch
    on one process. Others are taken where the command line states them, or where
    `auto_scale_lr.enable` has MMEngine scale the rate.

    Args:
        options: KEY=VALUE of the command line.

    Raises ValueError: another number of images than the config's, which nobody has stated.
    """
    batch = config.train_dataloader.batch_size
    times = config.optim_wrapper.get('accumulative_counts', 1)
    scale = config.get('auto_scale_lr') or {}
    total, meant = processes * batch * times, scale.get('base_batch_size') or batch * times
    made = ' x '.join([*[f'{processes} processes'] * (processes > 1), f'{batch} images'])
    made += f' x {times} accumulated' if times > 1 else ''
    if scale.get('enable'):
        if times > 1:
            raise ValueError(
                'auto_scale_lr.enable does not count accumulative_counts. Set enable=False, and '
                'optim_wrapper.optimizer.lr to what it shall be'
            )
        say(f'batch: {made} = {total} a step; learning rate x {total / meant:g} (auto_scale_lr)')
    elif total != meant and not any(option.startswith(_STATING) for option in options):
        each = meant / (processes * times)
        way = f'train_dataloader.batch_size={each:g} keeps {meant}; ' if each >= 1 else ''
        raise ValueError(
            f'{made} = {total} images a step, but the learning rate of this config is for {meant}. '
            f'With --cfg-options: {way if each == int(each) else ""}auto_scale_lr.enable=True '
            f'auto_scale_lr.base_batch_size={meant} multiplies the rate by {total / meant:g}; '
            f'auto_scale_lr.base_batch_size={total} takes {total} at the same rate'
        )
    elif made != f'{batch} images':
        say(f'batch: {made} = {total} a step')
    return total
