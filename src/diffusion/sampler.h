// Inside of models and samplers, for df.c and tests. Users include df.h.
#ifndef DF_DIFFUSION_SAMPLER_H
#define DF_DIFFUSION_SAMPLER_H

#include "df.h"
#include "diffusion/cell.h"

struct df_model {
  df_config config;
  df_noise noise;
  df_params params;
  char *text;         // config.json
  const char *format; // of the weights in the file, df_model_format
};

// For tests that follow the reference: before the first step, replaces the noise that token t
// starts from (D, network units).
df_status df_sampler_set_noise(df_sampler *sampler, int b, int64_t t, const float *noise);
// From now on nothing is kept from row to row: every token is visited in every row in which one behind it falls.
void df_sampler_forget(df_sampler *sampler);

#endif
