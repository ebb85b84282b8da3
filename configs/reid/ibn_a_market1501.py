"""IBN-Net-a, ResNet-50, strong baseline, Market-1501.

The original code is published with rank-1 95.0, mAP 88.2; not repeated here.

python tools/run.py train configs/reid/ibn_a_market1501.py --data-root DATA
"""

_base_ = ['./_base_/strong_baseline.py']
