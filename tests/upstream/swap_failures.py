# Licensed under a 3-clause BSD style license - see LICENSE
"""The tests of astropy and photutils that assert what least squares is, by the reason."""

FITTERS = 'astropy.modeling.tests.test_fitters'
WITH_WEIGHTS = f'{FITTERS}::TestNonLinearFitters::test_estimated_vs_analytic_deriv_with_weights'
MODELS_2D = 'astropy.modeling.tests.test_models::TestFittable2DModels::test_fitter2D'
PARALLEL = 'astropy.modeling.tests.test_fitting_parallel'
EPSF = 'photutils.psf.tests.test_epsf_builder::TestEPSFBuilder'

FAILURES = {
    'weights are 1 / sigma for least squares and change its answer; here they mask': [
        f'{WITH_WEIGHTS}[LevMarLSQFitter-TRFLSQFitter]',
        f'{WITH_WEIGHTS}[TRFLSQFitter-LevMarLSQFitter]',
        f'{WITH_WEIGHTS}[TRFLSQFitter-DogBoxLSQFitter]',
        f'{WITH_WEIGHTS}[DogBoxLSQFitter-TRFLSQFitter]',
        f'{FITTERS}::TestNonLinearFitters::test_with_weights[TRFLSQFitter]',
        f'{FITTERS}::TestNonLinearFitters::test_non_linear_lsq_fitter_with_weights[TRFLSQFitter]',
        f'{FITTERS}::TestWeightedFittingWithOutlierRemoval::'
        'test_2d_with_weights_with_sigma_clip[TRFLSQFitter]',
        f'{FITTERS}::test_fitters_with_weights[TRFLSQFitter]',
    ],
    "the answer of least squares to noise, or under a wrong model, is not the likelihood's": [
        f'{FITTERS}::TestNonLinearFitters::'
        'test_fitter_against_LevMar[TRFLSQFitter-SimplexLSQFitter]',
        f'{FITTERS}::TestNonLinearFitters::'
        'test_fitter_against_LevMar[TRFLSQFitter-SLSQPLSQFitter]',
        f'{FITTERS}::TestNonLinearFitters::test_LSQ_SLSQP_with_constraints[TRFLSQFitter]',
        f'{FITTERS}::TestNonLinearFitters::test_param_cov[TRFLSQFitter]',
        f'{FITTERS}::TestNonLinearFitters::test_param_cov_with_uncertainties[TRFLSQFitter]',
        'astropy.modeling.tests.test_constraints::TestNonLinearConstraints::'
        'test_no_constraints[TRFLSQFitter]',
        'photutils.psf.tests.test_model_helpers::test_make_psf_model[kwargs2-tols2]',
        'photutils.psf.tests.test_iterative::test_iterative_psf_photometry_overlap',
    ],
    'the covariance of least squares is scaled by the residuals, that of counts is not': [
        f'{FITTERS}::TestFittingUncertanties::'
        'test_1d_models[TRFLSQFitter-single_model0-model_set0]',
        f'{FITTERS}::TestFittingUncertanties::'
        'test_1d_models[TRFLSQFitter-single_model1-model_set1]',
        f'{FITTERS}::TestFittingUncertanties::test_2d_models[TRFLSQFitter]',
    ],
    'one pixel has light, the others noise: least squares stays at its start, the truth': [
        f'{MODELS_2D}[TRFLSQFitter-GeneralSersic2D-test_parameters5]',
        f'{MODELS_2D}[TRFLSQFitter-Sersic2D-test_parameters11]',
    ],
    'least squares needs more evaluations, or as many': [
        'photutils.psf.tests.test_photometry::test_psf_photometry_compound_psfmodel[False]',
        f'{PARALLEL}::TestFitInfo::test_all',
        f'{PARALLEL}::TestFitInfo::test_subset',
    ],
    'an image without background under a PSF with negative wings has no Poisson likelihood': [
        f'{EPSF}::test_star_exclusion',
        f'{EPSF}::test_process_iteration_with_fit_failures',
        f'{EPSF}::test_very_small_sources',
        f'{EPSF}::test_fit_star_with_fit_shape_none',
    ],
    'least squares must refuse a model without free parameters; here it is compared': [
        'photutils.psf.tests.test_photometry::test_fixed_params',
    ],
}
