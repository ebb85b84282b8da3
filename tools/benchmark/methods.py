"""What each method costs over a plain ResNet-50 with FCN: parameters, training step, prediction.

Some methods at a time take turns with the plain network in one run; ratios of medians. On a CPU
time is processor time of one thread, which other processes on the machine change little. Layers
that act with a probability p act in each step that is measured, and the ratio is 1 + p x what they
add. Memory is counted, not sampled: network, optimizer's state and what else a method keeps, and on
top of these the peak of what torch's allocator gives out in one step (its profiler's events; on a
GPU max_memory_allocated).
"""

import argparse
import time
from pathlib import Path

from step import stepper
from timing import alternate, machine, row

ROOT = Path(__file__).parents[2]
PLAIN, TEACHER = 'bn', 'shade, with its teacher'
#: Row -> what of the model is other than `--method` has it. WildNet's grids and dictionary are for
#: crops of 768; at 128 x 256 they would be nearly all of the time.
CHANGED = {'wildnet, small': dict(columns=16_384, grids=(16, 4))}
GROUP = 4


def known() -> list[str]:
    """Methods, in the order of the table."""
    from ibnseg.methods.others import OTHERS
    from ibnseg.placement import METHODS

    others = [name for name, other in OTHERS.items() if other.segmentor or other.hook]
    names = [name for name in METHODS if name != 'wildnet']
    return ['ibn_a', 'ibn_b', 'in_full', *names, TEACHER, *CHANGED, *others]


def built(name: str, args: argparse.Namespace):
    """Return the segmentor of a method on the device, ready to train."""
    import torch
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmseg.registry import MODELS

    from ibnseg.train.config import load_config

    config = load_config(str(args.config), method=name.partition(',')[0])
    config.model.data_preprocessor.size = tuple(args.size)
    config.model.backbone.init_cfg = None
    config.model.update(CHANGED.get(name, {}))
    if name == TEACHER:
        config.model.teacher = Config(dict(config.model.backbone, placement='bn'))._cfg_dict
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(config.model)).to(args.device).train()
    for layer in model.modules():
        if hasattr(layer, 'settled'):  # what a pass would have found
            layer.settled.fill_(True)
        if hasattr(layer, 'mask'):
            layer.mask.copy_(torch.ones_like(layer.mask).triu(1))
    return model


def kept(name: str, model):
    """Return what a method of weights does after a step, and how many copies of them it keeps."""
    from mmengine.model import ExponentialMovingAverage

    from ibnseg.methods import swad, valley

    if name == 'ema':
        average = ExponentialMovingAverage(model, momentum=0.001, update_buffers=True)
        return lambda: average.update_parameters(model), 1
    if name == 'swad':
        mean = {key: p.clone() for key, p in swad._trained(model).items()}
        # The mean of the segment, and up to 8 of earlier ones.
        return lambda: valley.drawn_in(mean, swad._trained(model), 1), 9
    return lambda: None, 0


def allocated(step, device: str) -> int:
    """Return the peak bytes that one step allocates on top of what was there."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if device.startswith('cuda'):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = (e for e in seen.profiler.kineto_results.events() if e.name() == '[memory]')
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


class Trial:
    """A method's network, its step and its prediction."""

    def __init__(self, name: str, args: argparse.Namespace):
        import torch

        from ibnseg.methods.style import StyleLayer

        self.name, self.args, self.model = name, args, built(name, args)
        self._train, self.optimizer = stepper(self.model, args)
        self._after, self.copies = kept(name, self.model)
        drawn = [layer for layer in self.model.modules() if isinstance(layer, StyleLayer)]
        self.share = drawn[0].p if drawn else 1
        for layer in drawn:
            layer.p = 1
        self.photo = torch.rand(1, 3, *args.size, device=args.device)

    def step(self) -> None:
        self._train()
        self._after()

    def predict(self):
        import torch

        with torch.no_grad():
            return self.model(self.photo, mode='tensor')

    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def memory(self) -> float:
        """Return the MiB of a training."""
        self.optimizer.zero_grad()
        tensors = [*self.model.state_dict().values()]
        tensors += [v for state in self.optimizer.state.values() for v in state.values()]
        held = sum(t.numel() * t.element_size() for t in tensors if t is not None)
        held += 4 * self.copies * self.parameters()
        return (held + allocated(self.step, self.args.device)) / 2**20


def measure(names: list[str], args: argparse.Namespace) -> dict[str, tuple]:
    """Return (parameters, ms of a step, MiB, ms of a prediction) of each method."""
    trials = {name: Trial(name, args) for name in names}
    how = dict(repeats=args.repeats, warmup=1)
    if not args.device.startswith('cuda'):
        how['clock'] = time.process_time
    steps = alternate({name: one.step for name, one in trials.items()}, **how)
    memory = {name: one.memory() for name, one in trials.items()}
    for one in trials.values():
        one.model.eval()
    predictions = alternate({n: one.predict for n, one in trials.items()}, settle=1, **how)
    for name, one in trials.items():
        steps[name] = steps[PLAIN] + one.share * (steps[name] - steps[PLAIN])
    return {n: (one.parameters(), steps[n], memory[n], predictions[n]) for n, one in trials.items()}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--methods', nargs='+', help='default: all')
    p.add_argument('--config', type=Path, default=ROOT / 'configs/resnet50_gta5_to_cityscapes.py')
    p.add_argument('--repeats', type=int, default=7)
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--device', help='default: a GPU if there is one')
    p.add_argument('--batch', type=int, default=2)
    p.add_argument('--size', type=int, nargs=2, default=(128, 256), metavar=('H', 'W'))
    args = p.parse_args()
    args.amp = False
    import torch
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    import ibnseg.registered  # noqa: F401

    torch.set_num_threads(args.threads)
    MMLogger.get_instance('methods', log_level='ERROR')
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    names = args.methods or known()
    batch = f'{args.batch} images of {args.size[0]} x {args.size[1]}'
    print(f'{machine(args.device)}, float32, {batch}, medians of {args.repeats}.\n')
    print(row('method', 'parameters', 'step', 'memory', 'prediction'))
    print(row(':--', *['--:'] * 4))
    for start in range(0, len(names), GROUP):
        with DefaultScope.overwrite_default_scope('mmseg'):
            found = measure([PLAIN, *names[start : start + GROUP]], args)
        count, *plain = found.pop(PLAIN)
        if not start:
            print(row('plain', f'{count:,}', *(f'{x:.0f} {u}' for x, u in zip(
                plain, ('ms', 'MiB', 'ms'), strict=True))), flush=True)  # fmt: skip
        for name, (own, *costs) in found.items():
            ratios = [f'{x / one:.2f}' for x, one in zip(costs, plain, strict=True)]
            print(row(name, f'{own - count:+,}' if own != count else '0', *ratios), flush=True)


if __name__ == '__main__':
    main()
