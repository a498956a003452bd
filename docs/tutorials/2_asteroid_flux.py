"""
The flux of an asteroid
=======================

A new user has an image with an asteroid and an image of a star that serves as the point-spread
function (PSF). A least-squares fit of the one to the other ends somewhere in the sky with a
negative flux, or with a flux that depends on what the PSF image was divided by. What must the PSF
sum to? Where should the fit start, and which pixels should it see? Is the position to be fitted,
or held? And how does one know that the answer is right?

This page answers the questions in that order, for an image whose truth is known, and ends with the
flux and the magnitude of the asteroid, both with an error that is checked. All of the answers are
functions of `kpsf.guidance`; :doc:`/user_guide/guidance` describes each of them.
"""

# %%
# The image
# ---------
#
# We simulate it. The seeing is a Moffat profile with a full width at half maximum (FWHM) of 3.5
# pixels, the sky 120 electrons per pixel, and the asteroid 3000 electrons in total, of which the
# brightest pixel has about 165. A star of half of that flux is 6 pixels away. Seven other stars
# are in the field; of the brightest, the comparison star, a catalogue has the magnitude. The
# ephemeris says where the asteroid should be, to a few pixels.
import matplotlib.pyplot as plt
import numpy as np
from astropy.modeling.models import Moffat2D

# sphinx_gallery_thumbnail_number = 3
plt.style.use('kpsf.plotting.style')

seeing = Moffat2D(amplitude=1.0, x_0=0.0, y_0=0.0, gamma=3.4, alpha=3.0)
flux_of_seeing = np.pi * seeing.gamma**2 / (seeing.alpha - 1.0)
sky, true_flux = 120.0, 3000.0
objects = [(118.3, 82.6, true_flux), (122.9, 79.4, 1500.0), (41.2, 107.7, 60000.0),
           (160.5, 30.2, 9000.0), (64.0, 33.4, 15000.0), (25.6, 60.1, 2500.0),
           (172.3, 122.1, 5000.0), (90.2, 130.0, 7000.0), (96.4, 22.7, 4000.0)]
y, x = np.mgrid[:150, :200]
expected = sky + sum(flux * seeing(x - x_0, y - y_0) / flux_of_seeing
                     for x_0, y_0, flux in objects)
rng = np.random.default_rng(1)
counts = rng.poisson(expected)
ephemeris = (115.0, 85.0)

# %%
# What the new user has of the PSF is an image with its peak at 1, of a bright star in the middle
# of 61 by 61 pixels:
v, u = np.mgrid[-30:31, -30:31]
psf_image = seeing(u, v)

# %%
# A fit that fails
# ----------------
#
# `photutils.psf.ImagePSF` makes a model of the PSF image, and astropy's least squares fits it to
# the image, once without knowing where the asteroid is, from the middle of the image, and once
# from the ephemeris.
from astropy.modeling.fitting import TRFLSQFitter
from photutils.psf import ImagePSF

least_squares = TRFLSQFitter()
middle = (100.0, 75.0)
lost, near = (least_squares(ImagePSF(psf_image, flux=500.0, x_0=x_0, y_0=y_0), x, y,
                            counts - np.median(counts)) for x_0, y_0 in (middle, ephemeris))
for name, fit in (('middle', lost), ('ephemeris', near)):
    place = f'({fit.x_0.value:.1f}, {fit.y_0.value:.1f})'
    print(f'from the {name}: flux {fit.flux.value:.0f} at {place}')

# %%
# The first fit ended next to where it began, with a negative flux. The second found the asteroid,
# but its flux is nowhere near 3000.
fig, ax = plt.subplots(figsize=(8.0, 5.4))
shown = ax.imshow(counts, vmin=80, vmax=300)
fig.colorbar(shown, label='Electrons per pixel')
ax.plot(*ephemeris, 'w+', ms=11, mew=1.5, label='ephemeris')
ax.plot(lost.x_0.value, lost.y_0.value, 'x', color='C1', ms=9, mew=2, label='fit from the middle')
for (x_0, y_0, _), name in zip(objects, ('asteroid', 'neighbour', 'comparison star')):
    below = name == 'neighbour'
    ax.annotate(name, (x_0, y_0), (12, -6 if below else 2), textcoords='offset points',
                va='top' if below else 'bottom', color='white')
ax.set(xlabel='x, column (pixels)', ylabel='y, row (pixels)',
       title='The image, and a fit that is lost')
ax.legend(labelcolor='white', loc='lower right')
plt.show()

# %%
# The cross is on empty sky: nothing there leads to the asteroid 20 pixels away. A fit goes to the
# nearest place that is better than those around it, here a dip of the noise, and to the fitter
# that is as good a solution as any. `~kpsf.diagnose` compares the fit with the image:
from kpsf import diagnose

print(diagnose(counts, lost, start=middle))

# %%
# The place that it names is that of the brightest star: it cannot know which source is meant. What
# it says of the *flux* holds for the other fit, too.
#
# 1. What the flux means
# ----------------------
#
# A model of a star is its flux times the PSF. So what "flux" means is decided by what the PSF sums
# to. `~kpsf.guidance.describe_normalization` looks at it:
from kpsf import describe_normalization, normalize_psf

print(describe_normalization(psf_image))

# %%
# The fitted flux was the height of the asteroid above the sky. `~kpsf.guidance.normalize_psf`
# returns the PSF that makes it the total flux, the sum of the asteroid's pixels. (If the PSF image
# has several samples per pixel, both need ``oversampling=`` as well.
# :doc:`/concepts/normalization` says more.)
psf = ImagePSF(normalize_psf(psf_image))

# %%
# 2. Where the asteroid is
# ------------------------
#
# `~kpsf.locate_source` needs no starting values. It weights pixels by the PSF and by their Poisson
# noise. ``n=None`` asks for all sources above 5 standard deviations:
from kpsf import locate_source

sources = locate_source(counts, psf, n=None)
for name, format_ in (('x', '.1f'), ('y', '.1f'), ('flux', '.0f'), ('flux_err', '.0f'),
                      ('background', '.0f'), ('significance', '.0f')):
    sources[name].info.format = format_
print(sources['id', 'x', 'y', 'flux', 'flux_err', 'background', 'significance'])

# %%
# All nine are there, the most significant first. The asteroid is the one nearest to the ephemeris
# (``locate_source(counts, psf, near=ephemeris)`` returns that one alone, and none if nothing is
# within two FWHM), the neighbour the next, and the comparison star the brightest:
distance = np.hypot(sources['x'] - ephemeris[0], sources['y'] - ephemeris[1])
asteroid, neighbour = np.argsort(distance)[:2]
comparison = np.argmax(sources['flux'])
found = sources[asteroid]
print(f'{distance[asteroid]:.1f} pixels from the ephemeris: '
      f'({found["x"]:.1f}, {found["y"]:.1f}) with {found["flux"]:.0f} electrons')

# %%
# These are starting values, not results: boxes and groups come next.
#
# 3. How large a box
# ------------------
#
# A fit needs a box of pixels around the star. In a small one, the wings of the star cannot be told
# from the background, which is fitted, too; a large one takes in neighbours.
# `~kpsf.suggest_fit_shape` computes the error of the flux for each box. ``neighbours`` are stars
# that the fit will *not* know of, as offsets and fluxes:
from kpsf import suggest_fit_shape
from kpsf.plotting import plot_fit_box

offset = [sources[name][neighbour] - found[name] for name in ('x', 'y')]
ignored = suggest_fit_shape(psf, found['flux'], found['background'],
                            neighbours=[(*offset, sources['flux'][neighbour])])
print(ignored)

# %%
# The star marks the best compromise. Where the neighbour is fitted, too, it makes no bias:
joint = suggest_fit_shape(psf, found['flux'], found['background'])
print(joint)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.0, 3.6), sharey=True)
for ax, advice in zip(axes, (ignored, joint)):
    plot_fit_box(advice, ax)
axes[0].set_title('Neighbour ignored')
axes[1].set(title='Neighbour fitted, too', ylabel='')
plt.show()

# %%
# With the neighbour ignored (left), its bias (dotted) exceeds the noise (dashed) around 10 pixels,
# and again beyond 20. The best one is where the bias changes its sign, which is no place to rest
# on. With the neighbour fitted, too (right), the error falls until the box is about seven times as
# wide as the PSF, and gains little beyond. So the two are to be fitted jointly, in that box.
#
# 4. What to do with the position
# -------------------------------
#
# The position of a faint star follows the noise to where it happens to be highest, and the flux
# comes out too high. `~kpsf.advise_centroid` simulates such fits, with the position free, held
# where it is known to be, and with a prior. ``known_to`` is the error of what is known before,
# here of an ephemeris that is good to 0.3 pixels:
from kpsf import advise_centroid

options = {'background': found['background'], 'fit_shape': joint.fit_shape, 'known_to': 0.3}
print(advise_centroid(psf, found['flux'], **options))

# %%
# The asteroid is bright enough for a free position. One of a fifteenth of its flux would not be:
print(advise_centroid(psf, found['flux'] / 15.0, **options))

# %%
# 5. The fit
# ----------
#
# `~kpsf.PoissonPSFPhotometry` is called as photutils' own class is, and maximises the Poisson
# likelihood, with one background for each star or group of stars. The table of sources is the
# start. The grouper joins stars that are nearer to each other than so many pixels, here half of
# the box and a FWHM: asteroid and neighbour are fitted together, all other stars alone. Our counts
# are electrons; for other data, ``gain`` says how many electrons a unit is, and ``read_noise`` is
# that of the CCD.
from photutils.psf import SourceGrouper

from kpsf import PoissonPSFPhotometry

grouper = SourceGrouper(joint.fit_shape[0] / 2.0 + joint.fwhm)
photometry = PoissonPSFPhotometry(psf, joint.fit_shape, grouper=grouper)
table = photometry(counts, init_params=sources)
flux, flux_err = table['flux_fit'][asteroid], table['flux_err'][asteroid]
print(f'flux of the asteroid: {flux:.0f} +- {flux_err:.0f} electrons; truth {true_flux:.0f}')

# %%
# The error is the one that `~kpsf.suggest_fit_shape` announced for that box. The rows have the
# order of the table of sources; without a table, the class finds the stars itself by
# `~kpsf.locate_source`. Who has a script for `photutils.psf.PSFPhotometry` keeps it and passes
# kpsf's fitter, which gives the same numbers, star by star:
from photutils.psf import PSFPhotometry

from kpsf import PoissonLikelihoodFitter

in_photutils = PSFPhotometry(psf, joint.fit_shape, grouper=grouper,
                             fitter=PoissonLikelihoodFitter(background='fit'))
same = in_photutils(counts, init_params=sources['x', 'y', 'flux'])[asteroid]
print(f'{same["flux_fit"]:.0f} +- {same["flux_err"]:.0f}')

# %%
# 6. Whether to trust it
# ----------------------
#
# What is left of the image when the stars are subtracted should be noise:
from kpsf.plotting import plot_photometry

fig, axes = plt.subplots(1, 2, figsize=(8.0, 4.3))
plot_photometry(photometry, counts, axes=axes, unit='Electrons', psf_shape=61)
axes[0].set_title('Stars that were fitted')
for ax in axes:
    ax.set(xlim=(95, 145), ylim=(55, 105))
plt.show()

# %%
# It is: the residuals in units of their noise (right) have a standard deviation of 1, and nothing
# is left where asteroid and neighbour (circles on the left) are. Seven stars are outside of this
# part. `~kpsf.diagnose` looks at the asteroid in particular. It gets the table and the row in it,
# so that it knows which stars were fitted jointly, and in which box:
print(diagnose(counts, table, index=asteroid, psf=psf))

# %%
# Nothing is wrong. Of a fit of the same box without the neighbour it says what is missing:
alone = PoissonPSFPhotometry(psf, joint.fit_shape)(counts, init_params=sources)
print(diagnose(counts, alone, index=asteroid, psf=psf))

# %%
# And of the least-squares fit that began at the ephemeris, it lists all that the steps above put
# right: the neighbour, the weights, and what the flux means.
print(diagnose(counts, near))

# %%
# The magnitude
# -------------
#
# Fluxes of one image and one PSF have a ratio that does not depend on exposure time, gain, or
# light beyond the edge of the PSF image. Pogson's ratio turns it into a difference of magnitudes,
# whose error follows from those of the two fluxes, and of the magnitude of the comparison star.
# (Colours are left aside.)
catalogue, catalogue_err = 14.20, 0.01
flux_of_comparison, its_error = table['flux_fit'][comparison], table['flux_err'][comparison]
magnitude = catalogue - 2.5 * np.log10(flux / flux_of_comparison)
per_relative_error = 2.5 / np.log(10.0)
magnitude_err = np.hypot(catalogue_err, per_relative_error * np.hypot(
    flux_err / flux, its_error / flux_of_comparison))
truth = catalogue - 2.5 * np.log10(true_flux / 60000.0)
print(f'magnitude of the asteroid: {magnitude:.2f} +- {magnitude_err:.2f}; truth {truth:.2f}')

# %%
# Is the error right?
# -------------------
#
# One result within its error proves little. Of a simulation, more exposures can be had. We take
# 300 and fit the same stars in each:
pair = sources[[asteroid, neighbour]]
fluxes, errors = np.zeros((2, 300))
for k in range(300):
    row = photometry(rng.poisson(expected), init_params=pair)[0]
    fluxes[k], errors[k] = row['flux_fit'], row['flux_err']
print(f'mean flux {fluxes.mean():.0f} +- {fluxes.std() / np.sqrt(300):.0f}, '
      f'scatter {fluxes.std():.0f}, mean error {errors.mean():.0f}')

fig, ax = plt.subplots(figsize=(8.0, 3.4))
bins = np.linspace(true_flux - 400.0, true_flux + 400.0, 33)
ax.hist(fluxes, bins, color='C5', label='300 exposures')
spread = errors.mean()
ax.plot(bins, len(fluxes) * (bins[1] - bins[0]) / (np.sqrt(2.0 * np.pi) * spread)
        * np.exp(-0.5 * ((bins - true_flux) / spread)**2), color='C0',
        label='expected from the reported error')
ax.axvline(true_flux, color='C1', label='truth')
ax.set(xlabel='Fitted flux (electrons)', ylabel='Number of exposures',
       title='Fluxes of the asteroid')
ax.legend()
plt.show()

# %%
# The fluxes scatter around the truth as the reported errors say.
#
# If it moved
# -----------
#
# An asteroid moves. In a longer exposure, taken later, it is away from the neighbour and has drawn
# a trail of 6 pixels; twice the time makes twice the electrons.
steps = np.linspace(-0.5, 0.5, 25)
motion = (5.5, 2.4)
trail = np.mean([seeing(x - 138.2 - motion[0] * step, y - 96.9 - motion[1] * step)
                 for step in steps], axis=0)
long_exposure = rng.poisson(2.0 * (sky + true_flux * trail / flux_of_seeing))
start = locate_source(long_exposure, psf)
as_star = PoissonPSFPhotometry(psf, joint.fit_shape)
as_star_table = as_star(long_exposure, init_params=start)
print(f'{as_star_table["flux_fit"][0]:.0f} +- {as_star_table["flux_err"][0]:.0f}; '
      f'truth {2 * true_flux:.0f}')
print(diagnose(long_exposure, as_star_table, psf=psf))

# %%
# The flux is too low by several times its error, and the diagnosis says why: the asteroid is wider
# than the PSF, and elongated in the direction of its motion. That is known from the ephemeris, so
# the PSF of the *asteroid* is the mean of PSFs along the trail. The stars of the image keep the
# old one.
trail_image = np.mean([psf.evaluate(u, v, 1.0, motion[0] * step, motion[1] * step)
                       for step in steps], axis=0)
trailed_psf = ImagePSF(normalize_psf(trail_image))
trail_box = suggest_fit_shape(trailed_psf, start['flux'][0], start['background'][0]).fit_shape
as_trail = PoissonPSFPhotometry(trailed_psf, trail_box)
as_trail_table = as_trail(long_exposure, init_params=start)
print(f'{as_trail_table["flux_fit"][0]:.0f} +- {as_trail_table["flux_err"][0]:.0f}')
print(diagnose(long_exposure, as_trail_table, psf=trailed_psf))

# %%
fig, axes = plt.subplots(1, 3, figsize=(8.0, 3.2), sharex=True, sharey=True)
images = [long_exposure - start['background'][0]]
images += [fit.make_residual_image(long_exposure, psf_shape=61, include_local_bkg=True)
           for fit in (as_star, as_trail)]
for ax, image, what in zip(axes, images, ('the sky', 'sky and star', 'sky and trail')):
    shown = ax.imshow(image, cmap='RdBu_r', vmin=-150.0, vmax=150.0)
    ax.set(title=f'Minus {what}', xlabel='x, column (pixels)')
axes[0].set(xlim=(120, 156), ylim=(79, 115), ylabel='y, row (pixels)')
fig.colorbar(shown, label='Electrons per pixel')
plt.show()

# %%
# The fitted star leaves the ends of the trail and takes too much from its middle; the trailed PSF
# leaves noise (right).
#
# All at once
# -----------
#
# For images in files, one command asks all of these questions, and another fits the stars:
#
# .. code-block:: bash
#
#     kpsf advise asteroid.fits --psf psf.fits --oversampling 1 --near 115 85 --gain 1 \
#         --plot advice.png
#     kpsf photometry asteroid.fits --psf psf.fits --oversampling 1 --normalize --gain 1
#
# ``--gain`` is the number of electrons per unit of the data, and ``--oversampling`` that of the
# samples of the PSF image per pixel; both come from the headers where these have them.
# ``--normalize`` is `~kpsf.guidance.normalize_psf`. In Python, `kpsf.guidance.advise` is the
# first.
#
# Try next: a brighter neighbour, or one at 4 pixels; a PSF image that was cut out off its middle;
# a sky of 2 electrons per pixel. :doc:`/how_to/own_psf` makes a PSF from the stars of an image,
# and :doc:`/user_guide/photometry` has the rest of the photometry.
