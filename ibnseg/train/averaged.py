"""What an average of weights over a training (MMEngine's EMAHook) cannot average."""

from collections.abc import Iterable

from mmengine.hooks import EMAHook, Hook


def follow(hooks: Iterable[Hook]) -> None:
    """Give averaged networks the training's buffers that are not of floating point.

    MMEngine leaves those as they were in the average's first iteration: ISW's masks, say, empty.
    """
    for hook in hooks:
        if isinstance(hook, EMAHook) and hasattr(hook, 'ema_model'):
            trained = hook.src_model.state_dict()
            for key, tensor in hook.ema_model.module.state_dict().items():
                if not tensor.is_floating_point():
                    tensor.copy_(trained[key])
