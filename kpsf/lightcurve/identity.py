# Licensed under a 3-clause BSD style license - see LICENSE
"""What the metadata of a light curve tell about the pixels it is from."""

from pathlib import Path

from ..tpf.read import META_KEYWORDS

__all__ = ['identity_of']


def identity_of(tpf):
    """Return what ``meta`` tells about the pixels; only what is known."""
    known = {name: tpf.meta.get(name) for name in ('target_id', 'magnitude', 'checksum')}
    known |= {name: tpf.meta.get(name) for name, _, _ in META_KEYWORDS if name != 'object'}
    known |= {'quality_mask': tpf.meta.get('quality_mask'), 'column': tpf.column, 'row': tpf.row,
              'exposure': tpf.noise.exposure, 'effective_exposure': tpf.noise.effective_exposure,
              'read_variance': tpf.read_variance}
    return {'target': tpf.target, 'mission': tpf.mission,
            'filename': Path(tpf.meta.get('filename', '')).name,
            **{name: value for name, value in known.items() if value is not None}}
