// The public API on a model file: only df.h, the file writer, and the lists that a file is made of.
#include <stdlib.h>

#include "df.h"
#include "diffusion/config.h"
#include "io/safetensors.h"
#include "tests/test.h"

static const char config_text[] =
    "{\"format\": \"diffusion-forcing/1\", \"name\": \"small\","
    " \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 8, \"network_size\": 4, \"stop_head\": "
    "true, \"initial\": \"learned\"},"
    " \"diffusion\": {\"levels\": 30, \"objective\": \"v\", \"schedule\": \"cosine\"},"
    " \"tokens\": {\"frame_stack\": 2, \"present\": true, \"fields\": [{\"name\": \"a\", \"mean\": "
    "100, \"std\": 3}]},"
    " \"sampling\": {\"schedule\": \"pyramid\", \"steps\": 4, \"max_tokens\": 5}}";

enum { MAX_TENSORS = 64 };

// A file under construction: tensors may be changed before it is written.
typedef struct parts {
  df_config config;
  df_params params;
  df_tensor_out tensors[MAX_TENSORS];
  int count;
  const char *meta[3];
} parts;

static bool make_parts(parts *p) {
  *p = (parts){.meta = {"config", config_text, NULL}};
  if (!CHECK_OK(df_config_parse(&p->config, config_text, strlen(config_text), &test_error)) ||
      !CHECK_OK(df_network_declare(&p->config.network, &p->params, &test_error)) ||
      !CHECK(p->params.count <= MAX_TENSORS))
    return false;
  df_params_init(&p->params, 7);
  for (int i = 0; i < p->params.count; i++) {
    const df_param *param = p->params.items[i];
    df_tensor_out *t = &p->tensors[p->count++];
    *t = (df_tensor_out){.name = param->name,
                         .dtype = DF_F32,
                         .dims = param->dims,
                         .shape = {param->rows, param->cols},
                         .data = param->value};
    if (param->dims == 1) t->shape[0] = param->cols;
  }
  return true;
}

static void drop_parts(parts *p) {
  df_params_free(&p->params);
  df_config_free(&p->config);
}

// Writes the parts, opens them, and forgets the file at once: a model keeps nothing of it.
static df_status open_parts(const parts *p, df_model **model) {
  void *bytes;
  size_t size;
  *model = NULL;
  if (!CHECK_OK(df_safetensors_write(&bytes, &size, p->tensors, p->count, p->meta, &test_error)))
    return DF_IO;
  df_status status = df_model_open(model, bytes, size, &test_error);
  memset(bytes, 0xee, size);
  df_free(bytes);
  return status;
}

static df_tensor_out *find(parts *p, const char *name) {
  for (int i = 0; i < p->count; i++)
    if (!strcmp(p->tensors[i].name, name)) return &p->tensors[i];
  CHECK(!"the tensor is in the list");
  return &p->tensors[0];
}

// Runs one sequence and copies its estimates (5 tokens of 2 frames).
static void sample(const df_model *model, float out[10]) {
  df_sampler *s;
  df_sampler_options o = df_sampler_defaults();
  o.length = 5, o.seed = 3;
  memset(out, 0, 10 * sizeof *out);
  if (!CHECK_OK(df_sampler_create(&s, model, &o, &test_error))) return;
  while (!df_sampler_done(s))
    if (!CHECK_OK(df_sampler_step(s, &test_error))) break;
  memcpy(out, df_sampler_state(s)->estimates, 10 * sizeof *out);
  df_sampler_free(s);
}

TEST(a_model_file_opens_and_samples_in_data_units) {
  parts p;
  df_model *model = NULL;
  if (make_parts(&p) && CHECK_OK(open_parts(&p, &model))) {
    CHECK_TEXT(df_model_config(model), config_text);
    CHECK_INT(df_model_parameters(model), df_params_count(&p.params));
    CHECK(df_model_bytes(model) > 4 * df_model_parameters(model));
    float out[10];
    sample(model, out);
    double mean = 0;
    for (int i = 0; i < 10; i++) mean += out[i] / 10;
    CHECK_NEAR(mean, 100, 10); // data units: 100 +- 3
  }
  df_model_free(model);
  drop_parts(&p);
}

TEST(half_precision_weights_give_nearly_the_same_samples) {
  const df_dtype types[] = {DF_F16, DF_BF16};
  const double tolerance[] = {0.02, 0.3};
  for (int i = 0; i < 2; i++) {
    parts p;
    df_model *model = NULL;
    float want[10] = {0}, got[10];
    DURING("%s", df_dtype_name(types[i]));
    if (make_parts(&p) && CHECK_OK(open_parts(&p, &model))) {
      sample(model, want);
      df_model_free(model);
      model = NULL;
      for (int t = 0; t < p.count; t++) p.tensors[t].dtype = types[i];
      if (CHECK_OK(open_parts(&p, &model))) {
        sample(model, got);
        CHECK_FLOATS(got, want, 10, tolerance[i]);
      }
    }
    df_model_free(model);
    drop_parts(&p);
  }
}

TEST(a_file_that_does_not_fit_its_config_is_refused_by_tensor) {
  static const int64_t integers[256];
  for (int i = 0; i < 9; i++) {
    parts p;
    df_model *model = NULL;
    if (!make_parts(&p)) break;
    df_tensor_out *head = find(&p, "x_from_z.weight");
    df_param *param = df_params_find(&p.params, "x_from_z.weight");
    df_status status = DF_OK;
    const char *message = "";
    switch (i) {
    case 0:
      *head = p.tensors[--p.count], status = DF_BAD_FILE,
      message = "tensor x_from_z.weight is missing";
      break;
    case 1:
      head->shape[0] = 8, head->shape[1] = 4, status = DF_BAD_SHAPE;
      message = "tensor x_from_z.weight: expected shape (4, 8), found (8, 4)";
      break;
    case 2:
      head->dims = 1, head->shape[0] = 32, status = DF_BAD_SHAPE;
      message = "tensor x_from_z.weight: expected shape (4, 8), found (32)";
      break;
    case 3:
      head = find(&p, "x_from_z.bias"), head->dims = 2, head->shape[0] = 1, head->shape[1] = 4,
      status = DF_BAD_SHAPE;
      message = "tensor x_from_z.bias: expected shape (4), found (1, 4)";
      break;
    case 4:
      head->dtype = DF_I64, head->data = integers, status = DF_BAD_FILE;
      message = "tensor x_from_z.weight: expected F32, F16 or BF16, found I64";
      break;
    case 5:
      param->value[9] = NAN, status = DF_BAD_VALUE,
      message = "tensor x_from_z.weight: entry 9 is nan";
      break;
    case 6:
      param->value[31] = -INFINITY, status = DF_BAD_VALUE,
      message = "tensor x_from_z.weight: entry 31 is -inf";
      break;
    case 7:
      p.tensors[p.count++] = (df_tensor_out){"x_from_w.weight", DF_F32, 1, {1}, param->value};
      status = DF_BAD_FILE,
      message = "tensor x_from_w.weight is not part of the network that the config describes";
      break;
    case 8:
      p.meta[0] = "konfig", status = DF_BAD_FILE,
      message = "expected the model's config in __metadata__";
      break;
    }
    DURING("case %d", i);
    if (CHECK_STATUS(open_parts(&p, &model), status)) CHECK_CONTAINS(test_error.message, message);
    CHECK(model == NULL);
    drop_parts(&p);
  }
}

TEST(a_bad_config_inside_a_good_file_is_named) {
  parts p;
  df_model *model = NULL;
  if (make_parts(&p)) {
    p.meta[1] = "{\"format\": \"diffusion-forcing/7\"}";
    CHECK_STATUS(open_parts(&p, &model), DF_BAD_CONFIG);
    CHECK_CONTAINS(test_error.message,
                   "format: expected \"diffusion-forcing/1\", found \"diffusion-forcing/7\"");
  }
  drop_parts(&p);
}

TEST(a_model_file_cut_anywhere_is_an_error) {
  parts p;
  void *bytes = NULL;
  size_t size = 0;
  if (make_parts(&p) &&
      CHECK_OK(df_safetensors_write(&bytes, &size, p.tensors, p.count, p.meta, &test_error)))
    for (size_t n = 0; n < size; n++) {
      df_model *model;
      DURING("%d of %d bytes", (int)n, (int)size);
      void *cut = malloc(n ? n : 1); // exactly so long, for the sanitizer
      memcpy(cut, bytes, n);
      CHECK_STATUS(df_model_open(&model, cut, n, &test_error), DF_BAD_FILE);
      CHECK(model == NULL);
      free(cut);
    }
  df_free(bytes);
  drop_parts(&p);
}

TEST(models_and_samplers_are_made_without_memory) {
  parts p;
  void *bytes = NULL;
  size_t size = 0;
  df_model *model = NULL;
  df_sampler *s = NULL;
  if (make_parts(&p) &&
      CHECK_OK(df_safetensors_write(&bytes, &size, p.tensors, p.count, p.meta, &test_error))) {
    CHECK_WITHOUT_MEMORY(df_model_open(&model, bytes, size, &test_error));
    df_sampler_options o = df_sampler_defaults();
    o.batch = 3;
    // The first sampler of a model packs the weights, which stay with the model.
    if (model && CHECK_OK(df_sampler_create(&s, model, &o, &test_error))) {
      df_sampler_free(s);
      CHECK_WITHOUT_MEMORY(df_sampler_create(&s, model, &o, &test_error));
      df_alloc_fail_after(0); // and a run needs none
      while (!df_sampler_done(s))
        if (!CHECK_OK(df_sampler_step(s, &test_error))) break;
      df_alloc_fail_after(-1);
      df_sampler_free(s);
    }
    df_model_free(model);
    // If memory runs out while the weights are packed, the model stays usable.
    for (long n = 0; CHECK_OK(df_model_open(&model, bytes, size, &test_error)); n++) {
      df_alloc_fail_after(n);
      df_status status = df_sampler_create(&s, model, &o, &test_error);
      df_alloc_fail_after(-1);
      if (status) CHECK_INT(status, DF_NO_MEMORY);
      if (status) CHECK_OK(df_sampler_create(&s, model, &o, &test_error));
      df_sampler_free(s);
      df_model_free(model);
      if (!status) break;
    }
  }
  df_free(bytes);
  drop_parts(&p);
}

TEST(samplers_of_one_model_do_not_disturb_each_other) {
  parts p;
  df_model *model = NULL;
  if (make_parts(&p) && CHECK_OK(open_parts(&p, &model))) {
    float alone[10];
    sample(model, alone);
    df_sampler *a, *b;
    df_sampler_options o = df_sampler_defaults();
    o.length = 5, o.seed = 3;
    CHECK_OK(df_sampler_create(&a, model, &o, &test_error));
    o.seed = 99, o.batch = 4;
    CHECK_OK(df_sampler_create(&b, model, &o, &test_error));
    while (a && b && !df_sampler_done(a)) { // in turn
      if (!CHECK_OK(df_sampler_step(a, &test_error)) || !CHECK_OK(df_sampler_step(b, &test_error)))
        break;
    }
    CHECK_FLOATS(df_sampler_state(a)->estimates, alone, 10, 0);
    df_sampler_free(b);
    df_sampler_free(a);
  }
  df_model_free(model);
  drop_parts(&p);
}

TEST(the_library_says_what_it_is) {
  CHECK_TEXT(df_version(), "0.1.0");
  CHECK(strlen(df_isa()) > 0);
  df_model_free(NULL);
}
