// A model file and a reference for it, as tensors that may be changed before they are written.
//
//   pair p;
//   pair_begin(&p, "f32");
//   pair_take_pass(&p, &golden, 0);            // one pass, as PyTorch computed it
//   df_model *model = pair_model(&p);          // df_model_free it
//   void *bytes = pair_reference(&p, &size);   // df_free them
//   pair_drop(&p);
#ifndef DF_TESTS_VERIFY_PAIR_H
#define DF_TESTS_VERIFY_PAIR_H

#include "diffusion/sampler.h"
#include "tests/golden_model.h"

enum { MAX_TENSORS = 64, TEXT = 8192 };

typedef struct pair {
  df_arena arena; // what the tensors point to
  char config[TEXT], numerics[TEXT];
  df_tensor_out weights[MAX_TENSORS], tensors[MAX_TENSORS]; // of the model, of the reference
  int weight_count, count;
  const char *format, *made_for; // "weights" of the reference; NULL: not told
  bool no_numerics;
} pair;

__attribute__((unused)) static void pair_begin(pair *p, const char *made_for) {
  *p = (pair){.format = "diffusion-forcing-reference/1", .made_for = made_for};
}

__attribute__((unused)) static void pair_drop(pair *p) { df_arena_free(&p->arena); }

__attribute__((unused)) static float *pair_room(pair *p, size_t n) {
  return df_arena_alloc(&p->arena, n * sizeof(float));
}

__attribute__((unused)) static void pair_put(pair *p, const char *name, const void *data, int dims,
                                             const int64_t *shape) {
  df_tensor_out *t = &p->tensors[p->count++];
  *t = (df_tensor_out){.name = name,
                       .dtype = strcmp(name, "in.level") ? DF_F32 : DF_I64,
                       .dims = dims,
                       .data = data};
  memcpy(t->shape, shape, (size_t)dims * sizeof *shape);
}
#define PUT(p, name, data, ...)                                                                    \
  pair_put(p, name, data, COUNT(((int64_t[]){__VA_ARGS__})), (int64_t[]){__VA_ARGS__})

// An output with its rounding noise
__attribute__((unused)) static void pair_noise(pair *p, const char *name, double largest,
                                               double noise) {
  size_t used = strlen(p->numerics);
  snprintf(p->numerics + used, TEXT - used, "%s\"%s\": [%.9g, %.9g]", used ? ", " : "{", name,
           largest, noise);
}

__attribute__((unused)) static double largest_of(const float *x, size_t n) {
  double largest = 0;
  for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs((double)x[i]));
  return largest;
}

__attribute__((unused)) static df_tensor_out *pair_find(pair *p, const char *name) {
  for (int i = 0; i < p->count; i++)
    if (!strcmp(p->tensors[i].name, name)) return &p->tensors[i];
  CHECK(!"the tensor is in the reference");
  return &p->tensors[0];
}

__attribute__((unused)) static void *pair_reference(const pair *p, size_t *size) {
  char numerics[TEXT + 2];
  const char *meta[9], **m = meta;
  void *bytes = NULL;
  snprintf(numerics, sizeof numerics, "%s}", p->numerics);
  if (p->format) *m++ = "format", *m++ = p->format;
  if (p->made_for) *m++ = "weights", *m++ = p->made_for;
  if (!p->no_numerics) *m++ = "numerics", *m++ = numerics;
  *m++ = "source", *m++ = "a test", *m = NULL;
  CHECK_OK(df_safetensors_write(&bytes, size, p->tensors, p->count, meta, &test_error));
  return bytes;
}

// The model's file; df_free it.
__attribute__((unused)) static void *pair_weights(const pair *p, size_t *size) {
  void *bytes = NULL;
  const char *meta[] = {"config", p->config, NULL};
  CHECK_OK(df_safetensors_write(&bytes, size, p->weights, p->weight_count, meta, &test_error));
  return bytes;
}

__attribute__((unused)) static df_model *pair_model(const pair *p) {
  size_t size;
  void *bytes = pair_weights(p, &size);
  df_model *model = NULL;
  if (bytes) CHECK_OK(df_model_open(&model, bytes, size, &test_error));
  df_free(bytes);
  return model;
}

// ---- Of the golden files ----

__attribute__((unused)) static void write_fields(df_json_writer *w, const char *key, int n,
                                                 const float *mean, const float *std) {
  df_json_object_begin(w, key);
  df_json_array_begin(w, "fields");
  for (int i = 0; i < n; i++) {
    char name[16];
    snprintf(name, sizeof name, "f%d", i);
    if (!mean) {
      df_json_put_string(w, NULL, name);
      continue;
    }
    df_json_object_begin(w, NULL);
    df_json_put_string(w, "name", name);
    df_json_put_number(w, "mean", mean[i]);
    df_json_put_number(w, "std", std[i]);
    df_json_object_end(w);
  }
  df_json_array_end(w);
  df_json_object_end(w);
}

// Config and weights of a golden file, with z0 (Z) as learned initial latent; NULL: the file's own, encoded from (O)
// numbers of this mean and deviation.
__attribute__((unused)) static void pair_take_model(pair *p, golden_model *m, const float *z0,
                                                    const float *mean, const float *std) {
  df_network net = m->network;
  df_json_writer w = {0};
  float field_mean[64], field_std[64];
  if (z0) net.initial = DF_INITIAL_LEARNED;
  df_json_object_begin(&w, NULL);
  df_json_put_string(&w, "format", DF_CONFIG_FORMAT);
  df_network_write(&net, &w, "denoiser");
  df_json_object_begin(&w, "diffusion");
  df_json_put_number(&w, "levels", m->noise.K);
  df_json_put_string(&w, "objective", df_objective_names[m->objective]);
  df_json_put_string(&w, "schedule", df_json_at(m->diffusion, "beta_schedule")->string);
  df_json_put_number(&w, "clip_noise", (double)m->clip_noise);
  df_json_object_end(&w);
  for (int i = 0; i < net.token_size; i++)
    field_mean[i] = (float)i - 2, field_std[i] = 1 + (float)i / 4;
  write_fields(&w, "tokens", net.token_size, field_mean, field_std);
  if (net.condition_size) write_fields(&w, "condition", net.condition_size, NULL, NULL);
  if (mean) write_fields(&w, "observation", net.observation_size, mean, std);
  df_json_object_end(&w);
  snprintf(p->config, sizeof p->config, "%s", w.text);
  df_json_writer_free(&w);
  for (int i = 0; i < m->params.count; i++) {
    const df_param *param = m->params.items[i];
    df_tensor_out *t = &p->weights[p->weight_count++];
    *t =
        (df_tensor_out){param->name, DF_F32, param->dims, {param->rows, param->cols}, param->value};
    if (param->dims == 1) t->shape[0] = param->cols;
  }
  if (z0)
    p->weights[p->weight_count++] = (df_tensor_out){"init_z", DF_F32, 1, {net.latent_size}, z0};
}

// The frames of take_model's fields, B T tokens
__attribute__((unused)) static void pair_frames(pair *p, const float *x, int B, int T, int D) {
  const size_t n = (size_t)B * (size_t)T * (size_t)D;
  float *frames = pair_room(p, n);
  for (size_t i = 0; i < n; i++) {
    const size_t j = i % (size_t)D;
    frames[i] = x[i] * (1 + (float)j / 4) + ((float)j - 2);
  }
  PUT(p, "out.frames", frames, B, T, 1, D);
  pair_noise(p, "out.frames", largest_of(frames, n), 0);
}

// The token that the paper's Algorithm 1 makes of x
__attribute__((unused)) static float noised(const golden_model *m, float x, float noise,
                                            int64_t t) {
  return m->noise.sqrt_abar[t + 1] * x + m->noise.sqrt_1m[t + 1] * df_clip(noise, m->clip_noise);
}

// One pass on sequence b of a golden file, as PyTorch computed it.
__attribute__((unused)) static void pair_take_pass(pair *p, golden_model *m, int b) {
  golden *g = &m->g;
  const df_network *net = &m->network;
  const int D = net->token_size, Z = net->latent_size, E = net->condition_size;
  const char *const kind = net->self_condition ? "out.predict_self_cond" : "out.predict";
  char output[64], latent[64];
  snprintf(output, sizeof output, "%s.model_out", kind);
  snprintf(latent, sizeof latent, "%s.pred_z", kind);
  float *x = golden_floats(g, "in.x") + b * D, *z0 = golden_floats(g, "in.z") + b * Z,
        *out = golden_floats(g, output) + b * D, *z = golden_floats(g, latent) + b * Z;
  int64_t *level = golden_ints(g, "in.t") + b;
  *level += 1;
  pair_take_model(p, m, z0, NULL, NULL);
  PUT(p, "in.x", x, 1, 1, D);
  PUT(p, "in.level", level, 1, 1);
  if (E) PUT(p, "in.cond", golden_floats(g, "in.external_cond") + b * E, 1, 1, E);
  if (net->self_condition) PUT(p, "in.guess", golden_floats(g, "in.x_self_cond") + b * D, 1, 1, D);
  PUT(p, "out.z0", z0, 1, Z);
  PUT(p, "out.output", out, 1, 1, D);
  PUT(p, "out.z", z, 1, 1, Z);
  pair_noise(p, "out.z0", largest_of(z0, (size_t)Z), 0);
  pair_noise(p, "out.output", largest_of(out, (size_t)D), golden_noise(m, output));
  pair_noise(p, "out.z", largest_of(z, (size_t)Z), golden_noise(m, latent));
  pair_frames(p, x, 1, 1, D);
}

#endif
