// The public API on a model file: df.h, the file writer, and the lists that a file is made of.
#include <stdlib.h>

#include "df.h"
#include "diffusion/sampler.h"
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

// A loader that is fed bytes[size] in pieces of n bytes, each in a block of its own that is so long.
static df_status load_pieces(df_model **model, const char *bytes, size_t size, size_t n,
                             size_t known) {
  df_loader *loader;
  *model = NULL;
  df_status status = df_loader_create(&loader, known, &test_error);
  if (status) return status;
  for (size_t at = 0; !status && at < size; at += n) {
    size_t count = size - at < n ? size - at : n;
    void *piece = malloc(count);
    memcpy(piece, bytes + at, count);
    status = df_loader_feed(loader, piece, count, &test_error);
    memset(piece, 0xee, count);
    free(piece);
  }
  df_status end = df_loader_finish(loader, model, &test_error);
  if (status) CHECK_STATUS(end, status); // it stays failed
  return end;
}

static const size_t pieces[] = {1, 2, 3, 7, 8, 9, 31, 127, 997, 4096, 65536, SIZE_MAX};

TEST(a_file_in_pieces_gives_the_same_model) {
  static const df_dtype dtypes[] = {DF_F32, DF_F16, DF_BF16};
  for (int d = 0; d < COUNT(dtypes); d++) {
    parts p;
    void *bytes = NULL;
    size_t size = 0;
    df_model *whole = NULL;
    if (!make_parts(&p)) break;
    for (int i = 0; i < p.count; i += 1 + d) p.tensors[i].dtype = dtypes[d]; // mixed widths
    if (CHECK_OK(df_safetensors_write(&bytes, &size, p.tensors, p.count, p.meta, &test_error)) &&
        CHECK_OK(df_model_open(&whole, bytes, size, &test_error)))
      for (int i = 0; i < 2 * COUNT(pieces); i++) {
        df_model *model;
        size_t n = pieces[i / 2];
        DURING("%s, pieces of %zu", df_dtype_name(dtypes[d]), n);
        if (!CHECK_OK(load_pieces(&model, bytes, size, n, i % 2 ? size : SIZE_MAX))) continue;
        CHECK_TEXT(df_model_config(model), config_text);
        CHECK_INT(df_model_bytes(model), df_model_bytes(whole));
        CHECK_INT(
            memcmp(model->params.values, whole->params.values, whole->params.size * sizeof(float)),
            0);
        df_model_free(model);
      }
    df_model_free(whole);
    df_free(bytes);
    drop_parts(&p);
  }
}

TEST(a_file_in_pieces_is_refused_with_the_same_words) {
  parts p;
  char *bytes = NULL;
  size_t size = 0;
  if (make_parts(&p) && CHECK_OK(df_safetensors_write((void **)&bytes, &size, p.tensors, p.count,
                                                      p.meta, &test_error)))
    for (size_t at = 0; at < size; at += at < 3000 ? 7 : 97) {
      char kept = bytes[at];
      df_model *model;
      bytes[at] = (char)(kept ^ 0x55);
      df_status expected = df_model_open(&model, bytes, size, &test_error);
      df_error whole = test_error;
      df_model_free(model);
      DURING("byte %zu", at);
      CHECK_STATUS(load_pieces(&model, bytes, size, 13, size), expected);
      if (expected) CHECK_TEXT(test_error.message, whole.message);
      df_model_free(model);
      bytes[at] = kept;
    }
  df_free(bytes);
  drop_parts(&p);
}

TEST(a_file_is_refused_as_soon_as_its_header_is_there) {
  parts p;
  char *bytes = NULL;
  size_t size = 0;
  uint64_t length;
  df_loader *loader;
  df_model *model;
  if (make_parts(&p)) {
    find(&p, "x_from_z.weight")->shape[1] = 4, find(&p, "x_from_z.weight")->shape[0] = 8;
    if (CHECK_OK(df_safetensors_write((void **)&bytes, &size, p.tensors, p.count, p.meta,
                                      &test_error)) &&
        CHECK_OK(df_loader_create(&loader, SIZE_MAX, &test_error))) {
      memcpy(&length, bytes, 8);
      CHECK_OK(df_loader_feed(loader, bytes, 8 + length - 1, &test_error));
      CHECK_STATUS(df_loader_feed(loader, bytes + 8 + length - 1, 1, &test_error), DF_BAD_SHAPE);
      CHECK_STATUS(df_loader_feed(loader, bytes, 1, &test_error), DF_BAD_SHAPE);
      CHECK_CONTAINS(test_error.message, "x_from_z.weight: expected shape (4, 8), found (8, 4)");
      CHECK_STATUS(df_loader_finish(loader, &model, &test_error), DF_BAD_SHAPE);
      CHECK(model == NULL);
    }
    // What is no model file at all, already by its first 8 bytes.
    if (CHECK_OK(df_loader_create(&loader, SIZE_MAX, &test_error))) {
      CHECK_STATUS(df_loader_feed(loader, "<!doctype html>", 15, &test_error), DF_BAD_FILE);
      CHECK_CONTAINS(test_error.message, "expected a header of at most 100000000 bytes");
      df_loader_free(loader);
    }
  }
  df_free(bytes);
  drop_parts(&p);
}

TEST(a_file_of_unknown_size_must_have_just_the_bytes_of_its_header) {
  parts p;
  char *bytes = NULL;
  size_t size = 0;
  if (make_parts(&p) &&
      CHECK_OK(
          df_safetensors_write((void **)&bytes, &size, p.tensors, p.count, p.meta, &test_error)) &&
      CHECK((bytes = df_realloc(bytes, size + 3)) != NULL)) {
    df_model *model;
    for (size_t n = 0; n < size; n += n + 50 < size ? 23 : 1) { // the last ones all
      DURING("%zu of %zu bytes", n, size);
      CHECK_STATUS(load_pieces(&model, bytes, n, 64, SIZE_MAX), DF_BAD_FILE);
      CHECK(model == NULL);
    }
    test_state.during[0] = 0;
    CHECK_CONTAINS(test_error.message, "bytes of tensors, found");
    for (int i = 0; i < COUNT(pieces); i++) {
      CHECK_STATUS(load_pieces(&model, bytes, size + 3, pieces[i], SIZE_MAX), DF_BAD_FILE);
      CHECK_CONTAINS(test_error.message, "bytes of tensors, found");
    }
    // A size that is not that of what comes.
    CHECK_STATUS(load_pieces(&model, bytes, size, 64, size + 1), DF_BAD_FILE);
    CHECK_STATUS(load_pieces(&model, bytes, size - 1, 64, size), DF_BAD_FILE);
    CHECK_STATUS(load_pieces(&model, bytes, size + 1, 64, size), DF_BAD_FILE);
  }
  df_free(bytes);
  drop_parts(&p);
}

// Bytes of JSON are no weights: a header may be long, and memory follows what has come of it.
TEST(a_long_header_takes_memory_as_it_comes) {
  enum { LONG = 300000 };
  uint64_t length = 90000000;
  df_loader *loader;
  df_model *model;
  char *text = malloc(LONG);
  memset(text, ' ', LONG);
  if (CHECK_OK(df_loader_create(&loader, SIZE_MAX, &test_error))) {
    size_t held = df_alloc_bytes();
    CHECK_OK(df_loader_feed(loader, &length, 8, &test_error));
    for (int i = 1; i <= 5; i++) {
      CHECK_OK(df_loader_feed(loader, text, LONG, &test_error));
      CHECK(df_alloc_bytes() - held <= (size_t)(i * 2 * LONG));
    }
    CHECK_STATUS(df_loader_finish(loader, &model, &test_error), DF_BAD_FILE);
    CHECK_CONTAINS(test_error.message, "found the length 90000000");
  }
  // And a long one that is good: 200,000 blanks more in the JSON.
  parts p;
  char *bytes = NULL;
  size_t size = 0;
  if (make_parts(&p) && CHECK_OK(df_safetensors_write((void **)&bytes, &size, p.tensors, p.count,
                                                      p.meta, &test_error))) {
    memcpy(&length, bytes, 8);
    uint64_t longer = length + 200000;
    if (CHECK_OK(df_loader_create(&loader, SIZE_MAX, &test_error))) {
      CHECK_OK(df_loader_feed(loader, &longer, 8, &test_error));
      CHECK_OK(df_loader_feed(loader, bytes + 8, length, &test_error));
      CHECK_OK(df_loader_feed(loader, text, 200000, &test_error));
      CHECK_OK(df_loader_feed(loader, bytes + 8 + length, size - 8 - length, &test_error));
      CHECK_OK(df_loader_finish(loader, &model, &test_error));
      df_model_free(model);
    }
    CHECK_WITHOUT_MEMORY(load_pieces(&model, bytes, size, 100, SIZE_MAX));
    df_model_free(model);
  }
  df_free(bytes);
  drop_parts(&p);
  free(text);
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
  df_loader_free(NULL);
}
