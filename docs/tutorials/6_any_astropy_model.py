"""
Any astropy model, Poisson-correct
==================================

`~kpsf.PoissonLikelihoodFitter` takes the place of any fitter of `astropy.modeling`. It fits what
astropy can describe, a spectrum as well as an image, with fixed, tied and bounded parameters, and
maximises the Poisson likelihood of counts instead of minimising squares.

This page fits two lines of a spectrum and a source in an image, both at a few counts per bin,
where it matters. It compares the result with least squares and with the best that is possible, the
Cramér-Rao bound; shows which of three kinds of errors to use; finds an asymmetric interval by a
profile of the likelihood; and asks whether the model fits at all. For the reasons see
:doc:`/concepts/why_poisson`, for all options :doc:`/user_guide/fitter`.
"""

# %%
# A spectrum of few counts
# ------------------------
#
# The [O III] doublet of a galaxy at rest, on a continuum of two counts per bin. Atomic physics
# ties the two lines: the one at 4959 Å has the intensity of the one at 5007 Å divided by 2.98
# (Storey & Zeippen 2000, MNRAS, 312, 813), the same width, and a position 47.9 Å below. The slope
# of the continuum is known and held. Negative continua and lines narrower than the spectrograph's
# 2 Å are excluded. All of this is astropy:
import matplotlib.pyplot as plt
import numpy as np
from astropy.modeling.models import Gaussian1D, PowerLaw1D

# sphinx_gallery_thumbnail_number = 4
plt.style.use('kpsf.plotting.style')

doublet = (PowerLaw1D(amplitude=2.0, x_0=5000.0, alpha=1.5, fixed={'x_0': True, 'alpha': True},
                      bounds={'amplitude': (0.0, None)})
           + Gaussian1D(amplitude=12.0, mean=5007.0, stddev=5.0, bounds={'stddev': (2.0, 20.0)})
           + Gaussian1D(amplitude=4.0, mean=4959.0, stddev=5.0))
doublet.amplitude_2.tied = lambda model: model.amplitude_1 / 2.98
doublet.mean_2.tied = lambda model: model.mean_1 - 47.9
doublet.stddev_2.tied = lambda model: model.stddev_1

# %%
# A simulated spectrum: counts, drawn from what the model expects.
wavelength = np.arange(4880.0, 5080.0, 2.5)
expected = doublet(wavelength)
rng = np.random.default_rng(3)
counts = rng.poisson(expected)
n_empty = np.count_nonzero(counts == 0)
print(f'{counts.sum()} counts in {counts.size} bins, of which {n_empty} are empty')

# %%
# The fitter is called with a model that has starting values, as astropy's own fitters are.
# ``calc_uncertainties=True`` gives the fitted model its errors, ``stds``, as in astropy. The
# continuum is part of the model, so that the fitter needs no other background.
from kpsf import PoissonLikelihoodFitter

poisson = PoissonLikelihoodFitter(calc_uncertainties=True)
fitted = poisson(doublet, wavelength, counts)
for name, unit in (('amplitude_0', 'counts per bin'), ('amplitude_1', 'counts per bin'),
                   ('mean_1', 'Å'), ('stddev_1', 'Å')):
    truth, value = (getattr(model, name).value for model in (doublet, fitted))
    print(f'{name:11} {value:7.2f} +- {fitted.stds[name]:.2f} {unit:15} (truth {truth:.1f})')

# %%
# Least squares needs an error for each bin. The usual choice is the square root of its counts, and
# 1 where there are none:
from astropy.modeling.fitting import TRFLSQFitter

least_squares = TRFLSQFitter()
errors = np.sqrt(np.maximum(counts, 1))
by_squares = least_squares(doublet, wavelength, counts, weights=1.0 / errors)

fig, ax = plt.subplots()
ax.stairs(counts, np.append(wavelength - 1.25, wavelength[-1] + 1.25), color='C6', alpha=0.5,
          lw=0.8, label='counts')
fine = np.linspace(wavelength[0], wavelength[-1], 500)
for model, colour, name in ((doublet, 'C2', 'truth'), (fitted, 'C0', 'Poisson likelihood'),
                            (by_squares, 'C1', 'least squares')):
    ax.plot(fine, model(fine), color=colour, ls=':' if name == 'truth' else '-', label=name)
ax.set(xlabel='Wavelength (Å)', ylabel='Counts per bin', title='The doublet and two fits of it')
ax.legend(loc='upper left')
plt.show()

# %%
# Both fits find the lines. But the continuum of least squares is too low: bins that came out low
# by chance have smaller errors, and so more weight.
#
# Bias and scatter
# ----------------
#
# One spectrum shows no bias. So we draw 200, fit each in both ways, and look at two numbers: the
# continuum, and the equivalent width of the doublet, its flux in units of the continuum.


def equivalent_width(model):
    """Return flux of both lines over continuum, in Å."""
    line = np.sqrt(2.0 * np.pi) * model.amplitude_1.value * model.stddev_1.value
    return (1.0 + 1.0 / 2.98) * line / model.amplitude_0.value


found = {'Poisson likelihood': [], 'least squares': []}
for spectrum in rng.poisson(expected, (200, expected.size)):
    errors = np.sqrt(np.maximum(spectrum, 1))
    for name, model in (
            ('Poisson likelihood', poisson(doublet, wavelength, spectrum)),
            ('least squares', least_squares(doublet, wavelength, spectrum, weights=1.0 / errors))):
        found[name].append((model.amplitude_0.value, equivalent_width(model)))

# %%
# No unbiased estimate scatters less than the Cramér-Rao bound. A fit to the *expected* counts
# gives it: its covariance is the inverse of the expected information at the truth. The error of
# the equivalent width follows from it by the derivatives with respect to the free parameters,
# which are the continuum and the amplitude, place and width of the line.
ideal = poisson(doublet, wavelength, expected)
covariance = poisson.fit_info.param_cov
truths = doublet.amplitude_0.value, equivalent_width(doublet)
slopes = truths[1] * np.array([-1.0 / doublet.amplitude_0.value, 1.0 / doublet.amplitude_1.value,
                               0.0, 1.0 / doublet.stddev_1.value])
bounds = ideal.stds['amplitude_0'], np.sqrt(slopes @ covariance @ slopes)

fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.6), sharey=True)
for ax, column, label in zip(axes, (0, 1), ('Continuum (counts per bin)', 'Equivalent width (Å)')):
    truth, bound = truths[column], bounds[column]
    bins = truth + bound * np.linspace(-5.0, 7.0, 37)
    for (name, values), colour in zip(found.items(), ('C0', 'C1')):
        values = np.array(values)[:, column]
        ax.hist(values, bins, color=colour, alpha=0.6, label=name)
        print(f'{label:26} {name:18}: mean {values.mean():6.2f} (truth {truth:6.2f}), '
              f'scatter {values.std() / bound:.1f} of the bound')
    ideal_curve = np.exp(-0.5 * ((bins - truth) / bound)**2) / (np.sqrt(2.0 * np.pi) * bound)
    ax.plot(bins, 200 * (bins[1] - bins[0]) * ideal_curve, 'C6', label='Cramér-Rao bound')
    ax.axvline(truth, color='C6', ls=':', label='truth')
    ax.set_xlabel(label)
axes[0].set_ylabel('Number of spectra')
axes[1].legend()
plt.show()

# %%
# The likelihood is right on average and as precise as possible: the curve is not fitted to the
# blue histograms, it is the bound. Least squares loses a third of the continuum, and the
# equivalent width comes out half as large again as it is, with a larger scatter. (That of the
# continuum is below the bound, which holds for estimates without a bias.)
#
# A source in an image
# --------------------
#
# The second example has two dimensions: the X-ray image of a cluster of galaxies, whose brightness
# is a beta model (Cavaliere & Fusco-Femiano 1976, A&A, 49, 137), :math:`S = S_0\,[1 +
# (r/r_c)^2]^{1/2 - 3\beta}`. astropy calls it `~astropy.modeling.models.Moffat2D`, with
# :math:`\gamma = r_c` and :math:`\alpha = 3\beta - 1/2`. There are about 800 photons on a
# background of 0.1 per pixel, and most pixels are empty.
from astropy.modeling.models import Moffat2D

y, x = np.mgrid[:81, :81]
cluster = Moffat2D(amplitude=4.0, x_0=40.0, y_0=40.0, gamma=6.0, alpha=1.5)
expected_image = cluster(x, y) + 0.1
rng = np.random.default_rng(8)
image = rng.poisson(expected_image)
print(f'{np.mean(image == 0):.0%} of the pixels are empty, the highest has {image.max()} counts')

# %%
# The image contains its background. ``background='fit'`` tells the fitter to fit a constant beside
# the model. It is part of the likelihood, not of the model, and is found in ``fit_info``:
start = Moffat2D(amplitude=2.0, x_0=38.0, y_0=42.0, gamma=4.0, alpha=2.0,
                 bounds={'gamma': (0.5, 50.0), 'alpha': (1.01, 20.0)})
fitter = PoissonLikelihoodFitter(background='fit', calc_uncertainties=True)
beta_model = fitter(start, x, y, image)
beta_info = fitter.fit_info
for name in beta_model.param_names:
    print(f'{name:10} {getattr(beta_model, name).value:6.2f} +- {beta_model.stds[name]:.2f}')
print(f'background {beta_info.background:6.3f} +- {beta_info.background_err:.3f}')

# %%
# For comparison, a model that is wrong: a round Gaussian, its two widths tied.
from astropy.modeling.models import Gaussian2D

round_gaussian = Gaussian2D(amplitude=2.0, x_mean=38.0, y_mean=42.0, x_stddev=5.0, y_stddev=5.0,
                            fixed={'theta': True}, tied={'y_stddev': lambda model: model.x_stddev})
gaussian = fitter(round_gaussian, x, y, image)
gaussian_info = fitter.fit_info

# %%
# Does the model fit?
# -------------------
#
# ``cstat`` is the C-statistic, minus twice the logarithm of the likelihood but for a constant, and
# ``gof_z`` its distance from what a right model gives, in standard deviations:
for name, info in (('beta model', beta_info), ('Gaussian', gaussian_info)):
    print(f'{name:10}: cstat {info.cstat:.1f}, gof_z {info.gof_z:+.2f}')

# %%
# The C-statistic prefers the beta model by far: 4 would be two standard deviations of its one
# further parameter. ``gof_z`` hardly tells them apart: it is within 2 of 0 for 95 per cent of
# right models. A pixel that is empty or has one count says little about the shape of a source.
# Sums of pixels say more. Sums of Poisson counts are Poisson, so that `~kpsf.goodness_of_fit`
# takes them, here along rings of 3 pixels around the centre. Of each fit it is told the number of
# free parameters, background included:
from kpsf import goodness_of_fit

ring = (np.hypot(x - beta_model.x_0, y - beta_model.y_0) / 3.0).astype(int)
radius = 3.0 * np.arange(13) + 1.5


def along_rings(values):
    """Return the sum of an image in each ring."""
    return np.bincount(ring.ravel(), values.ravel())[:len(radius)]


n_pixels, in_rings = along_rings(np.ones(image.shape)), along_rings(image)
fig, ax = plt.subplots()
ax.errorbar(radius, in_rings / n_pixels, np.sqrt(in_rings) / n_pixels, fmt='o', color='C6',
            label='mean of the pixels')
for name, model, info, n_free, colour in (('beta model', beta_model, beta_info, 6, 'C0'),
                                          ('Gaussian', gaussian, gaussian_info, 5, 'C1')):
    expected_in_rings = along_rings(model(x, y) + info.background)
    z = goodness_of_fit(in_rings, expected_in_rings, n_free=n_free).z
    ax.plot(radius, expected_in_rings / n_pixels, color=colour, label=f'{name}, z = {z:+.1f}')
ax.set(yscale='log', xlabel='Distance from the centre (pixels)', ylabel='Counts per pixel',
       title='The profile of the cluster')
ax.legend()
plt.show()

# %%
# The profile shows what is wrong with the Gaussian: its core is too flat, and it has no wings. Now
# z says so, too.
#
# Which errors
# ------------
#
# ``covariance`` chooses among three kinds. ``'fisher'``, the default, is the inverse of the
# expected information, ``'observed'`` that of the curvature of the likelihood of these counts, and
# ``'sandwich'`` propagates the scatter of the counts through the fit, which does not assume that
# the model is right. The first and the last, for both models and 80 more images, against what the
# fitted values scatter by:
images = rng.poisson(expected_image, (80, *image.shape))
for name, model, parameter in (('beta model', beta_model, 'alpha'),
                               ('Gaussian', gaussian, 'x_stddev')):
    for covariance in ('fisher', 'sandwich'):
        fitter = PoissonLikelihoodFitter(background='fit', covariance=covariance,
                                         calc_uncertainties=True)
        fits = [fitter(model, x, y, other) for other in images]
        scatter = np.std([getattr(fit, parameter).value for fit in fits])
        error = np.mean([fit.stds[parameter] for fit in fits])
        print(f'{name:10} {parameter:8} {covariance:8}: error {error:.2f}, scatter {scatter:.2f}')

# %%
# Where the model is right, both errors are the scatter, as far as 80 images tell. Where it is
# wrong, only the sandwich is. :doc:`/concepts/errors` says more.
#
# Profile likelihood
# ------------------
#
# An error with a plus and a minus assumes that the likelihood is a parabola. Of a slope that goes
# along with a core radius, it is not. The profile shows: hold the parameter at each of many
# values, fit all others again, and see by how much the C-statistic rises. Where it rises by 1 is
# the 68 per cent interval, by 4 the 95 per cent interval of this one parameter (Wilks 1938, Ann.
# Math. Stat., 9, 60; Cash 1976, A&A, 52, 307).
grid = np.linspace(1.02, 3.0, 40)
fitter = PoissonLikelihoodFitter(background='fit')
profile = []
for value in grid:
    held = beta_model.copy()
    held.alpha = value
    held.alpha.fixed = True
    fitter(held, x, y, image)
    profile.append(fitter.fit_info.cstat - beta_info.cstat)
profile = np.array(profile)

best, error = beta_model.alpha.value, beta_model.stds['alpha']
below, above = grid < best, grid > best
for rise in (1.0, 4.0):
    lower = np.interp(rise, profile[below][::-1], grid[below][::-1])
    upper = np.interp(rise, profile[above], grid[above])
    print(f'rise {rise:.0f}: {best:.2f} -{best - lower:.2f} +{upper - best:.2f}; '
          f'by the error: +-{np.sqrt(rise) * error:.2f}')

fig, ax = plt.subplots()
ax.plot(grid, profile, label='profile of the likelihood')
ax.plot(grid, ((grid - best) / error)**2, color='C1', ls='--', label='parabola of the error')
ax.axvline(1.5, color='C6', ls=':', label='truth')
for rise, name in ((1.0, '68 %'), (4.0, '95 %')):
    ax.axhline(rise, color='C6', lw=0.7)
    ax.text(2.98, rise + 0.1, name, ha='right')
ax.set(xlim=(1.0, 3.0), ylim=(0.0, 6.0), xlabel=r'Slope $\alpha$ of the cluster (held)',
       ylabel='C-statistic above its minimum', title='What the image says of the slope')
ax.legend(loc='upper right', bbox_to_anchor=(1.0, 0.5))
plt.show()

# %%
# The profile is steeper than the parabola to the left and flatter to the right: a steep cluster
# with a large core looks much like this one, a flat one with a small core does not. The interval
# is what to quote where the two differ.
#
# What is known of a parameter from elsewhere need not be fixed. ``priors={'alpha': (1.5, 0.1)}``
# adds it to the likelihood with its own error; :doc:`/concepts/priors` says when that is wise.
#
# Try next: a continuum of 0.2 or of 50 counts per bin; the same cluster ten times as bright, for
# which profile and parabola agree; or a model of your own, made with
# `~astropy.modeling.custom_model`. Many images of the same kind are fitted at once by
# `~kpsf.fit_stamps`, see :doc:`/user_guide/stamps`.
