"""
Drop into photutils
===================

photutils finds stars, subtracts the background, and fits a PSF to each star by least squares. What
changes if the fit maximises the Poisson likelihood instead, and when does it matter?

This tutorial takes a workflow of `photutils <https://photutils.readthedocs.io>`_ and changes one
argument of it. You will have learnt how the fitter is told about the background, by how much the
usual recipe is off at low counts, what becomes of blended stars, how to use an effective PSF that
photutils built, and what the class is for that fits all stars at once.
"""

# %%
# A faint field
# -------------
#
# 200 stars of 20 to 20 000 electrons, on a sky of 1 electron per pixel. The PSF is a Gaussian that
# is integrated over the pixels, 2 pixels wide at half of its height. photutils draws the stars:
import matplotlib.pyplot as plt
import numpy as np
from astropy.table import QTable, Table
from photutils.datasets import make_model_image, make_model_params
from photutils.psf import CircularGaussianPRF

# sphinx_gallery_thumbnail_number = 2
plt.style.use('kpsf.plotting.style')
rng = np.random.default_rng(1)

psf = CircularGaussianPRF(fwhm=2.0)
shape = (300, 300)
stars = make_model_params(shape, 200, x_name='x_0', y_name='y_0', min_separation=14,
                          border_size=8, seed=1)
stars['flux'] = np.geomspace(20, 20_000, len(stars))
star_image = make_model_image(shape, psf, stars, model_shape=(15, 15))
counts = rng.poisson(star_image + 1.0)

# %%
# The positions come from a catalogue that is good to 0.1 pixel. (A finder would find the faintest
# stars mainly where the noise makes them brighter, which is another story.)
places = QTable({'x': stars['x_0'] + rng.normal(0.0, 0.1, len(stars)),
                 'y': stars['y_0'] + rng.normal(0.0, 0.1, len(stars))})

# %%
# As usual
# --------
#
# Measure the background and subtract it, compute the error of each pixel from background and
# star, fit. ``(11, 11)`` is the box around each star that is fitted, and ``aperture_radius`` that
# of the aperture from which the fluxes start:
from photutils.background import Background2D
from photutils.psf import PSFPhotometry
from photutils.utils import calc_total_error

background = Background2D(counts, (50, 50), exclude_percentile=50)
data = counts - background.background
error = calc_total_error(data, background.background_rms, effective_gain=1.0)

photometry = PSFPhotometry(psf, (11, 11), aperture_radius=3)
usual = photometry(data, error=error, init_params=places)

# %%
# One argument
# ------------
#
# Now the fitter is `~kpsf.PoissonLikelihoodFitter`. Counts from which something was subtracted are
# not Poisson any more, so the image stays as it is, and ``background='fit'`` adds a constant to
# the model of each star. No errors are needed: the likelihood knows how counts scatter.
from kpsf import PoissonLikelihoodFitter

fitter = PoissonLikelihoodFitter(background='fit')
photometry = PSFPhotometry(psf, (11, 11), aperture_radius=3, fitter=fitter)
poisson = photometry(counts, init_params=places)

# %%
# The result is photutils' own table. It has no place for what else a fit found, which is in
# ``fitter.history``, a record for each star: background, C-statistic, goodness of fit
# (:doc:`/user_guide/statistics`).
history = Table(fitter.history)
print(f'background: {history["background"].mean():.2f} electrons per pixel')
print(f'fits that converged: {history["success"].sum()} of {len(stars)}')

# %%
# How much of the true flux did both find? The stars are in the order of their fluxes, so that 25
# neighbours in the table are similar:
true_flux = np.array(stars['flux'])
middle_of_25 = np.median(true_flux.reshape(8, 25), axis=1)
fig, axes = plt.subplots(1, 2, sharey=True, figsize=(8.0, 3.6))
for ax, table, title in ((axes[0], usual, 'Background subtracted, least squares'),
                         (axes[1], poisson, 'PoissonLikelihoodFitter')):
    ratio = np.array(table['flux_fit']) / true_flux
    by_25 = ratio.reshape(8, 25)
    ax.axhline(1.0, color='C6', lw=0.8)
    ax.plot(true_flux, ratio, '.', color='C5')
    ax.errorbar(middle_of_25, by_25.mean(axis=1), by_25.std(axis=1) / np.sqrt(25), fmt='o',
                color='C1', label='mean of 25 stars')
    ax.set(title=title, xscale='log', xlabel='True flux (electrons)')
axes[0].set(ylabel='Measured flux / true flux', ylim=(0.0, 1.8))
axes[1].legend()
plt.show()

# %%
# On the left, the mean falls below 1 the fainter the stars are: the faintest lose about a third of
# their flux. On the right it stays at 1. The scatter around it is photon noise in both, and nobody
# can remove that.
#
# If a background was subtracted already, the fitter has to know which, to put it back: a number or
# an image, ``PoissonLikelihoodFitter(background=background.background)``. It refuses data that
# cannot be counts:
try:
    PSFPhotometry(psf, (11, 11), aperture_radius=3, fitter=PoissonLikelihoodFitter())(
        data, init_params=places)
except ValueError as refusal:
    print(str(refusal).replace(': ', ':\n'))

# %%
# It is better not to subtract. Estimates of the background that are built on the median suit data
# without steps; the median of small whole numbers is a whole number:
from photutils.background import MMMBackground

for sky in (0.3, 1.0, 1.5):
    image = rng.poisson(star_image + sky)
    estimate = Background2D(image, (50, 50), exclude_percentile=50).background_median
    print(f'sky {sky}: Background2D {estimate:.2f}, MMMBackground {MMMBackground()(image):.2f}')

# %%
# The sky of our image, 1, happens to suit them. What was lost on the left was lost by the weights.

# %%
# Why weights bias
# ----------------
#
# A pixel that has by chance fewer electrons than expected gets a smaller error from its own
# counts, hence more weight; one that has more gets less. The fit is pulled down (Mighell 1999,
# ApJ, 518, 380; Humphrey, Liu & Buote 2009, ApJ, 693, 822). How far depends on flux, background,
# and how the errors are made.
#
# Many isolated stars tell: 625 of each flux, in cells of 15 by 15 pixels. So that there is nothing
# but the weights, the positions are known and fixed (forced photometry), and so is the background.
fluxes = np.array([20.0, 100.0, 1000.0, 10_000.0])
row, column = np.divmod(np.arange(2500), 50)
grid = QTable({'x_0': 15 * column + 7 + rng.uniform(-0.5, 0.5, 2500),
               'y_0': 15 * row + 7 + rng.uniform(-0.5, 0.5, 2500),
               'flux': np.resize(fluxes, 2500)})
grid_image = make_model_image((750, 750), psf, grid, model_shape=(15, 15))
grid_places = QTable({'x': grid['x_0'], 'y': grid['y_0']})
forced = CircularGaussianPRF(fwhm=2.0, fixed={'x_0': True, 'y_0': True})

# %%
# kpsf fits them by `~kpsf.PoissonPSFPhotometry`, the class that the last section is about: it
# finds the maximum of the same likelihood as the fitter, for all stars at once. ``background=sky``
# tells it what was subtracted. photutils gets the first 64 stars of each flux, three times:
# without errors, with the square root of the counts, and with ``calc_total_error`` as above.
#
# The yardstick is the Cramér-Rao bound, the least scatter that an estimate without bias can have.
# It comes for free: the fit to the *expected* counts ends at the truth, and its errors are the
# bound.
from kpsf import PoissonPSFPhotometry

skies = (0.1, 1.0, 10.0)
results = {}
for sky in skies:
    image = rng.poisson(grid_image + sky)
    likelihood = PoissonPSFPhotometry(forced, (11, 11), background=sky)
    bound = np.array(likelihood(grid_image, init_params=grid_places)['flux_err'])
    tables = {'kpsf': likelihood(image - sky, init_params=grid_places)}
    errors = {'no errors': None,
              'root of counts': np.sqrt(np.maximum(image, 1)),
              'total error': calc_total_error(image - sky, np.full(image.shape, sky**0.5), 1.0)}
    least_squares = PSFPhotometry(forced, (11, 11), aperture_radius=3)
    for name, error in errors.items():
        tables[name] = least_squares(image - sky, error=error, init_params=grid_places[:256])
    for name, table in tables.items():
        n = len(table)
        deviation = np.array(table['flux_fit'] - grid['flux'][:n])
        percent = 100 * deviation.reshape(-1, 4) / fluxes       # a column for each flux
        in_bounds = (deviation / bound[:n]).reshape(-1, 4)
        results[name, sky] = (percent.mean(axis=0), percent.std(axis=0) / np.sqrt(n / 4),
                              np.sqrt(np.mean(in_bounds**2, axis=0)))

# %%
# For each sky and flux: the bias in per cent with its standard error, and the root of the mean
# squared deviation in units of the bound. 1 is the best there is. (It is known to 9 per cent from
# photutils' 64 stars, and to 3 from kpsf's 625.)
print(' sky   flux' + ''.join(f'{name:>22}' for name in tables))
for sky in skies:
    for index, flux in enumerate(fluxes):
        cells = [[values[index] for values in results[name, sky]] for name in tables]
        print(f'{sky:4} {flux:6.0f}' + ''.join(
            f'{bias:+9.1f} ± {error:3.1f} / {rms:3.1f}' for bias, error, rms in cells))

# %%
fig, axes = plt.subplots(1, 3, sharey=True, figsize=(8.0, 3.8))
for ax, sky in zip(axes, skies):
    ax.axhline(0.0, color='C6', lw=0.8)
    for name, marker in zip(tables, 'os^v'):
        bias, error, _ = results[name, sky]
        ax.errorbar(fluxes, bias, error, marker=marker, label=name)
    ax.set(title=f'sky {sky:g} e$^-$ per pixel', xscale='log', xlabel='True flux (electrons)')
axes[0].set(ylabel='Bias of the flux (%)')
axes[1].legend(loc='lower right')
plt.show()

# %%
# Weights from the counts take tens of per cent of the faintest stars, some per cent at
# 1000 electrons, and up to one per cent at 10 000, where photon noise is one per cent: the mean of
# a few stars shows it. (At a sky of 1 both kinds of weights are the same.) Without errors there is
# no bias, but more scatter than need be, and ``flux_err``, which then comes from the residuals, is
# 0.2 to 0.8 of the scatter. The likelihood needs no choice, has no bias, and is at the bound.
#
# That is so with known positions. Free ones follow the noise, and raise the flux of the faintest
# stars in any program; `~kpsf.CentroidPrior` ends it. :doc:`/user_guide/photometry` has the table
# for that, with more stars.

# %%
# Blended stars
# -------------
#
# Now 225 pairs of 1000 and 700 electrons, 2.5 pixels apart, on a sky of 5. ``SourceGrouper`` says
# which stars are fitted jointly: those within 4 pixels of each other.
from photutils.psf import SourceGrouper

n_pairs = 225
row, column = np.divmod(np.arange(n_pairs), 15)
x = 24 * column + 12 + rng.uniform(-0.5, 0.5, n_pairs)
y = 24 * row + 12 + rng.uniform(-0.5, 0.5, n_pairs)
angle = rng.uniform(0.0, 2.0 * np.pi, n_pairs)
dx, dy = 1.25 * np.cos(angle), 1.25 * np.sin(angle)
pairs = QTable({'x_0': np.concatenate([x - dx, x + dx]), 'y_0': np.concatenate([y - dy, y + dy]),
                'flux': np.repeat([1000.0, 700.0], n_pairs)})
pair_image = make_model_image((360, 360), psf, pairs, model_shape=(21, 21)) + 5.0
pair_counts = rng.poisson(pair_image)
pair_places = QTable({'x': pairs['x_0'], 'y': pairs['y_0']})

# %%
# To keep it free of the bias above, least squares gets the true background and the true errors,
# which nobody knows of real data. The *pull* is (measured - true) / reported error. Its standard
# deviation is 1 where the errors are right.
options = {'aperture_radius': 3, 'grouper': SourceGrouper(4.0)}
least_squares = PSFPhotometry(psf, (11, 11), **options)
likelihood = PSFPhotometry(psf, (11, 11), fitter=PoissonLikelihoodFitter(background='fit'),
                           **options)
tables = {'least squares': least_squares(pair_counts - 5.0, error=np.sqrt(pair_image),
                                         init_params=pair_places),
          'PoissonLikelihoodFitter': likelihood(pair_counts, init_params=pair_places)}
pulls = {name: np.array((table['flux_fit'] - pairs['flux']) / table['flux_err'])
         for name, table in tables.items()}
for name, pull in pulls.items():
    print(f'{name}: standard deviation of the pull {pull.std():.2f}')

# %%
# With the true errors, least squares should have been right. But photutils joins the boxes of the
# stars of a group one after the other: a pixel in two boxes enters twice, as if it had been
# measured twice. The fluxes stay about the same, and the errors become too small, for a pair by
# up to the square root of 2. `~kpsf.PoissonLikelihoodFitter` counts each pixel once.
fig, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.6))
left.imshow(pair_counts[:24, :24], cmap='gray_r')
corners = []
for star, color in ((0, 'C0'), (n_pairs, 'C1')):            # the first pair
    corner = np.ceil([pair_places[name][star] - 5.5 for name in 'xy'])
    left.add_patch(plt.Rectangle(corner - 0.5, 11, 11, fill=False, ec=color, lw=1.4))
    left.plot(pair_places['x'][star], pair_places['y'][star], '+', color=color, ms=8.0)
    corners.append(corner)
n_shared = int(np.prod(11 - np.abs(corners[1] - corners[0])))
left.set(title=f'{n_shared} of {2 * 121 - n_shared} pixels are in both boxes',
         xlabel='x (pixels)', ylabel='y (pixels)')
bins = np.linspace(-5.0, 5.0, 26)
right.hist(pulls['PoissonLikelihoodFitter'], bins, density=True, color='C5',
           label='PoissonLikelihoodFitter')
right.hist(pulls['least squares'], bins, density=True, histtype='step', color='C1', lw=1.4,
           label='least squares')
z = np.linspace(-5.0, 5.0, 101)
right.plot(z, np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi), color='C6', label='expected')
right.set(xlabel='Pull of the flux', ylabel='Density', ylim=(0.0, 0.6))
right.legend(loc='upper left')
plt.show()

# %%
# Left: one of the pairs, with the boxes of its two stars. Right: the pulls of least squares are
# wider than they should be, those of the likelihood are not.

# %%
# An effective PSF
# ----------------
#
# So far the PSF was known. Where it is not, photutils builds an effective PSF (Anderson & King
# 2000, PASP, 112, 1360) from the bright stars of the image. Their positions are in the first
# table, and the background that has to be subtracted from the cut-outs is the one that the fits
# found:
from astropy.nddata import NDData
from photutils.psf import EPSFBuilder, extract_stars

bright = poisson[poisson['flux_fit'] > 2000]
bright_places = QTable({'x': bright['x_fit'], 'y': bright['y_fit']})
cutouts = extract_stars(NDData(counts - history['background'].mean()), bright_places, size=15)
epsf, _ = EPSFBuilder(oversampling=2, maxiters=6, progress_bar=False)(cutouts)

# %%
# Is its flux the total flux of a star? `~kpsf.describe_normalization` says what a flux
# means, and how wide a PSF is; the true PSF for comparison:
from kpsf import describe_normalization

print(f'from {len(cutouts)} stars:')
print(describe_normalization(epsf))
print(describe_normalization(psf))

# %%
# An image with two samples per pixel along each axis has to sum to 4 for that. The third line
# tells by how much the sum of the pixels of a star, hence its flux, depends on where in a pixel it
# is.
#
# The result is an `~photutils.psf.ImagePSF`. kpsf takes it as it is, or as a `~kpsf.TabulatedPRF`:
# the same image, with analytic derivatives, and with a width and an angle that can be freed.
from kpsf import TabulatedPRF

tabulated = TabulatedPRF.from_image_psf(epsf)
by_epsf = PoissonPSFPhotometry(tabulated, (11, 11))(counts, init_params=places)

# %%
# How near is it to the truth? A star that is drawn with it, anywhere in a pixel, has so much of
# its light in the wrong pixels, and the fluxes are off by so much:
y, x = np.mgrid[:15, :15]
truth = psf.copy()
misplaced = []
for place in rng.uniform(6.5, 7.5, (100, 2)):
    for model in (tabulated, truth):
        model.x_0, model.y_0 = place
    misplaced.append(0.5 * np.abs(tabulated(x, y) - truth(x, y)).sum())
print(f'misplaced light: {100 * np.mean(misplaced):.1f} %')
ratio = np.array(by_epsf['flux_fit'] / poisson['flux_fit'])[100:]
print(f'flux with it / flux with the true PSF, the {ratio.size} brighter stars: '
      f'{ratio.mean():.3f}, scatter {ratio.std():.3f}')

# %%
from kpsf.plotting import plot_prf

fig, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.5), width_ratios=(1.0, 1.1))
plot_prf(tabulated, axes=left)
left.set_title('Effective PSF')
offset = np.linspace(-6.0, 6.0, 241)
true_profile, built_profile = (model(model.x_0 + offset, model.y_0)
                               for model in (truth, tabulated))
right.axhline(0.0, color='C6', lw=0.8)
right.plot(offset, true_profile, color='C5', lw=4.0, label='true PSF')
right.plot(offset, built_profile, '--', color='C1', label='effective PSF')
right.plot(offset, 10 * (built_profile - true_profile), color='C2', label='difference × 10')
right.set(xlabel='x from the star (pixels)', ylabel='Share of the flux in a pixel')
right.legend(loc='upper left')
plt.show()

# %%
# Left: the image, with contours at 50, 10, 1 and 0.1 per cent of the peak; the last one is ragged
# where the wings of the stars drown in their noise. Right: a cut through the middle. The width is
# right, and the fluxes are low by a few thousandths: good for a survey, not for a transit. For
# time series, which see a star at many places in a pixel, `~kpsf.learn_psf` does better
# (:doc:`/user_guide/scenes`).

# %%
# All stars at once
# -----------------
#
# photutils copies the model and calls its fitter star by star. `~kpsf.PoissonPSFPhotometry` has
# the same interface and returns the same columns, but fits isolated stars as one batch, and groups
# of the same size as another. With this PSF that is about a hundred times faster than
# ``PSFPhotometry`` with its default fitter (``benchmarks/README.md``, "Photometry: speed").
# Without ``init_params`` and ``finder``, it finds the stars itself, all above 5 standard
# deviations:
photometry = PoissonPSFPhotometry(psf, (11, 11))
table = photometry(counts)
print(f'{len(table)} of {len(stars)} stars found')
for name in ('x_fit', 'y_fit', 'flux_fit', 'flux_err', 'background_fit', 'gof_z'):
    table[name].info.format = '.2f'
print(table['x_fit', 'y_fit', 'flux_fit', 'flux_err', 'background_fit', 'gof_z', 'flags'][:5])

# %%
# ``background_fit`` and ``gof_z``, the goodness of fit in standard deviations, are columns here.
# ``gof_z`` above about 5 would say that the PSF is wrong. So would the picture of what is left:
from kpsf.plotting import plot_photometry

fig, axes = plt.subplots(1, 2, figsize=(8.0, 4.2))
plot_photometry(photometry, counts, axes, unit='electrons')
plt.show()

# %%
# Left: the image and the stars that were found. Right: what is left without them is noise of
# standard deviation 1, with no trace of a star.

# %%
# What next
# ---------
#
# * Try another sky, or smaller boxes; `~kpsf.suggest_fit_shape` says which is large enough.
# * In the table of biases, fix nothing, and then give the faintest stars a prior:
#   ``PoissonPSFPhotometry(..., centroid_prior=0.1)``.
# * :doc:`/how_to/photutils` has the recipes, :doc:`/user_guide/photometry` all options and
#   :doc:`/user_guide/fitter` the fitter, which takes any astropy model.
# * Data in other units than electrons need ``gain``, and CCDs ``read_noise``:
#   :doc:`/concepts/electrons_and_background` and :doc:`/concepts/noise`.
