// The network of a golden file: sizes, diffusion settings and weights, all read from the file itself.
//
//   golden_model m;
//   if (golden_model_open(&m, "rnn_guided_mc")) ...
//   golden_model_close(&m);
#ifndef DF_TESTS_GOLDEN_MODEL_H
#define DF_TESTS_GOLDEN_MODEL_H

#include <stdlib.h>

#include "denoisers/denoiser.h"
#include "diffusion/noise.h"
#include "tests/golden.h"

typedef struct golden_model {
  golden g;
  const df_json *algorithm; // config.algorithm, or config itself where the case has no sequences
  const df_json *diffusion, *run; // its object "diffusion"; config.case
  df_network network;
  df_params params;
  df_noise noise;
  df_objective objective;
  float clip_noise;
  int frame_stack, S;
} golden_model;

__attribute__((unused)) static int golden_int(const df_json *object, const char *key) {
  const df_json *v = df_json_at(object, key);
  test_check(v && (v->kind == DF_JSON_NUMBER || v->kind == DF_JSON_BOOL), __FILE__, __LINE__, key,
             " is not in the config");
  return v ? (int)v->number : 0;
}

__attribute__((unused)) static double golden_number(const df_json *object, const char *key) {
  const df_json *v = df_json_at(object, key);
  test_check(v && v->kind == DF_JSON_NUMBER, __FILE__, __LINE__, key, " is not in the config");
  return v ? v->number : 0;
}

__attribute__((unused)) static bool golden_is(const df_json *object, const char *key,
                                              const char *value) {
  const df_json *v = df_json_at(object, key);
  return v && v->kind == DF_JSON_STRING && !strcmp(v->string, value);
}

// The reference's name of one of our parameters in this file: a sequence model holds its network under a prefix.
__attribute__((unused)) static const char *golden_weight_name(const golden_model *m,
                                                              const char *name, char text[192]) {
  static const char *const prefixes[] = {"weights.", "weights.transition_model.",
                                         "weights.diffusion_model."};
  for (int i = 0; i < COUNT(prefixes); i++) {
    snprintf(text, 192, "%s%s", prefixes[i], name);
    if (df_safetensors_find(&m->g.file, text)) return text;
  }
  // the network alone
  snprintf(text, 192, "weights.%s", strncmp(name, "model.", 6) ? name : name + 6);
  return text;
}

__attribute__((unused)) static void golden_model_close(golden_model *m) {
  df_params_free(&m->params);
  df_noise_free(&m->noise);
  golden_close(&m->g);
}

// Shape of a weight, whatever it is called in this file.
__attribute__((unused)) static const df_view *golden_weight(golden_model *m, const char *name) {
  char text[192];
  return df_safetensors_find(&m->g.file, golden_weight_name(m, name, text));
}

// The vector network of branch `paper`.
__attribute__((unused)) static bool golden_rnn(golden_model *m) {
  const df_json *d = m->diffusion, *z = df_json_item(df_json_at(m->algorithm, "z_shape"), 0),
                *learned = df_json_at(m->algorithm, "learnable_init_z");
  const df_view *encoder = golden_weight(m, "init_encoder.0.weight");
  if (!CHECK(z)) return false;
  m->network = (df_network){
      .denoiser = &df_denoiser_rnn,
      .latent_size = (int)z->number,
      .network_size = golden_int(d, "network_size"),
      .hidden_size = 32 * golden_int(d, "network_size"),
      .mlp_layers = golden_int(d, "num_mlp_layers"),
      .gru_layers = golden_int(d, "num_gru_layers"),
      .self_condition = golden_int(d, "self_condition"),
      .initial = encoder                           ? DF_INITIAL_ENCODED
                 : learned && learned->number != 0 ? DF_INITIAL_LEARNED
                                                   : DF_INITIAL_ZERO,
      .observation_size = encoder ? (int)encoder->shape[1] : 0,
  };
  return true;
}

// The token transformer of branch `main`; a case is a whole window.
__attribute__((unused)) static void golden_transformer(golden_model *m) {
  const df_json *a = df_json_at(m->diffusion, "architecture"),
                *causal = df_json_at(m->algorithm, "causal"),
                *tokens = df_json_at(m->g.config, "n_tokens");
  m->network = (df_network){
      .denoiser = &df_denoiser_transformer,
      .network_size = golden_int(a, "network_size"),
      .hidden_size = golden_int(a, "dim_feedforward"),
      .layers = golden_int(a, "num_layers"),
      .heads = golden_int(a, "attn_heads"),
      .causal = causal ? causal->number != 0 : golden_int(m->g.config, "is_causal"),
      .window = tokens ? (int)tokens->number : golden_int(m->run, "frames"),
  };
}

// Fills the parameters from the file.
__attribute__((unused)) static bool golden_weights(golden_model *m, const char *name) {
  for (int i = 0; i < m->params.count; i++) {
    df_param *p = m->params.items[i];
    char text[192];
    const df_view *view = golden_view(&m->g, golden_weight_name(m, p->name, text));
    DURING("%s of %s", text, name);
    if (!view || !CHECK_INT((int)view->count, p->rows * p->cols) || !CHECK_INT(view->dims, p->dims))
      return false;
    df_view_floats(view, 0, view->count, p->value);
  }
  DURING("%s", name);
  return true;
}

__attribute__((unused)) static bool golden_model_open(golden_model *m, const char *name) {
  *m = (golden_model){.g = golden_open(name)};
  if (!CHECK(m->g.config != NULL)) return false;
  m->algorithm = df_json_at(m->g.config, "algorithm");
  if (!m->algorithm) m->algorithm = m->g.config;
  m->diffusion = df_json_at(m->algorithm, "diffusion");
  if (!m->diffusion) m->diffusion = df_json_at(m->g.config, "diffusion");
  m->run = df_json_at(m->g.config, "case");
  const df_json *d = m->diffusion, *stack = df_json_at(m->algorithm, "frame_stack");
  m->frame_stack = stack ? (int)stack->number : 1;
  m->S = golden_int(d, "sampling_timesteps");
  m->clip_noise = (float)golden_number(d, "clip_noise");
  m->objective = golden_is(d, "objective", "pred_noise") ? DF_PREDICT_NOISE
                 : golden_is(d, "objective", "pred_x0")  ? DF_PREDICT_X0
                                                         : DF_PREDICT_V;
  df_noise_kind kind = DF_NOISE_LINEAR;
  for (int i = 0; i < DF_NOISE_KINDS; i++)
    if (golden_is(d, "beta_schedule", df_noise_names[i])) kind = (df_noise_kind)i;
  if (df_json_at(d, "architecture"))
    golden_transformer(m);
  else if (!golden_rnn(m))
    return false;
  const df_json *x = df_json_item(df_json_at(m->algorithm, "x_shape"), 0);
  const df_view *head =
      golden_weight(m, m->network.window ? "model.out.bias" : "x_from_z.bias"); // of a token
  if (!CHECK(x && head)) return false;
  m->network.token_size = (int)x->number * m->frame_stack;
  m->network.condition_size = golden_int(m->algorithm, "external_cond_dim");
  return CHECK_INT((int)head->shape[0], m->network.token_size) &&
         CHECK_OK(df_noise_create(&m->noise, kind, golden_int(d, "timesteps"), &test_error)) &&
         CHECK_OK(df_network_declare(&m->network, &m->params, &test_error)) &&
         golden_weights(m, name);
}

// What the file says of an output: 0: its largest magnitude, 1: how much float32 rounding moved it.
__attribute__((unused)) static double golden_numerics(golden_model *m, const char *name, int i) {
  static const char *const none = "{}";
  const char *text = df_safetensors_meta(&m->g.file, "numerics");
  const df_json *root = NULL;
  df_json_parse(&root, &m->g.arena, text ? text : none, strlen(text ? text : none), &test_error);
  const df_json *entry = df_json_at(root, name);
  test_check(entry && entry->length == 2, __FILE__, __LINE__, name,
             " is not in the numerics of the golden file");
  return entry && entry->length == 2 ? df_json_item(entry, i)->number : 0;
}
__attribute__((unused)) static double golden_noise(golden_model *m, const char *name) {
  return golden_numerics(m, name, 1);
}

// The tolerance that golden/README.md recommends for an output: 20 times the float32 noise of the reference itself,
// plus 1e-6 of the largest magnitude.
__attribute__((unused)) static double golden_tolerance(golden_model *m, const char *name) {
  return 20 * golden_noise(m, name) + 1e-6 * golden_numerics(m, name, 0);
}

#endif
