# Licensed under a 3-clause BSD style license - see LICENSE
"""PSF photometry with the Poisson likelihood, for astropy and photutils.

- `read_tpf`: a Kepler, K2 or TESS target pixel file becomes `TargetPixels`, in electrons.
- `extract_light_curve`: target pixels become a `LightCurve`, one PSF fit per cadence.
- `extract_many`: the same for many files, on all cores or a cluster, resumed after any end.
- `Scene`: blended stars, fitted jointly by `extract_light_curve(tpf, scene=...)`, into
  `SceneLightCurves`; `find_stars` finds them.
- `fit_stamps`: thousands of stamps in one call, any astropy model, into `StampFits`.
- `PoissonPSFPhotometry`: the stars of an image at once, with photutils' interface.
- `PoissonLikelihoodFitter`: the same solver as an astropy fitter, one model at a time.
- `locate_source`, `describe_normalization`, `suggest_fit_shape`, `advise_centroid`, `diagnose`:
  guidance: starting values, what a flux means, how large a box, what to do with positions, and
  what a fit is worth.
- `signal_transfer`: how much of a star's variation a light curve keeps.
- `CentroidPrior`: what is known of a star's position before the fit.
- `cash`, `cstat`, `goodness_of_fit`: the statistics, and whether a fit is acceptable.
- `KeplerPRF`, `TessPRF`: the instrument's own PRF at a place on the detector, as a model.
- `TabulatedPRF`: a model from an oversampled image of any PRF; `EllipticalGaussianPRF`, a
  Gaussian integrated over the pixel.
- `learn_psf`: the PRF itself, learned from the stars of many stamps.
- `simulate_tpf`: a target pixel file with known truth, to try all of this on;
  `simulate_kepler_prf` and `simulate_tess_prf`: the PRF files that go with it.
- `conf`: where PRF files are looked for.
"""

from importlib import import_module

# astropy loads our entry point while it imports its fitters. If kpsf.fitting came first, astropy
# would find it half-initialised; with astropy first, either import order works.
import astropy.modeling.fitting  # noqa: F401

__version__ = '0.1.0.dev0'

_MODULE_OF = {
    'CentroidPrior': 'priors',
    'EllipticalGaussianPRF': 'models',
    'EllipticalGaussianPSF': 'models',
    'FitFlag': 'flags',
    'KeplerPRF': 'prf',
    'LearnedPSF': 'learning',
    'LightCurve': 'lightcurve',
    'NoiseModel': 'noise',
    'PoissonLikelihoodFitter': 'fitting',
    'PoissonPSFPhotometry': 'photometry',
    'Scene': 'scenes',
    'SceneLightCurves': 'lightcurve',
    'StampFits': 'stamps',
    'TabulatedPRF': 'models',
    'TargetPixels': 'tpf',
    'TessPRF': 'prf',
    'advise_centroid': 'guidance',
    'cash': 'statistics',
    'conf': '_configuration',
    'cstat': 'statistics',
    'cstat_moments': 'statistics',
    'decode_flags': 'flags',
    'describe_normalization': 'guidance',
    'diagnose': 'guidance',
    'extract_light_curve': 'lightcurve',
    'extract_many': 'batch',
    'find_stars': 'scenes',
    'fit_stamps': 'stamps',
    'goodness_of_fit': 'statistics',
    'learn_psf': 'learning',
    'locate_source': 'guidance',
    'normalize_psf': 'guidance',
    'read_tpf': 'tpf',
    'signal_transfer': 'signals',
    'simulate_kepler_prf': 'simulate',
    'simulate_tess_prf': 'simulate',
    'simulate_tpf': 'simulate',
    'suggest_fit_shape': 'guidance',
}

__all__ = sorted(_MODULE_OF)


def __getattr__(name):
    """Import a public name from its module when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(import_module(f'{__name__}.{_MODULE_OF[name]}'), name)
    globals()[name] = value
    return value


def __dir__():
    """List the public names, loaded or not."""
    return sorted({*globals(), *_MODULE_OF})
