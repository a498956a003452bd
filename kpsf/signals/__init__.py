# Licensed under a 3-clause BSD style license - see LICENSE
"""Whether a light curve keeps what the star does: signals put into the pixels, and found again."""

from .inject import inject_signal
from .signal import Signal, SignalGrid, default_signals
from .transfer import signal_transfer

__all__ = ['Signal', 'SignalGrid', 'default_signals', 'inject_signal', 'signal_transfer']
