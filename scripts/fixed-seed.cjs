// Property tests draw the same values in every run, so that a run can be repeated; TSNET_TEST_SEED draws others.
require('fast-check').configureGlobal({ seed: Number(process.env.TSNET_TEST_SEED ?? 20261122) })
