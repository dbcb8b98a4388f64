// The public API on a model file: df.h, the file writer, and the lists that a file is made of.
#include <stdlib.h>

#include "df.h"
#include "diffusion/sampler.h"
#include "io/safetensors.h"
#include "tests/test.h"

#define REST                                                                                       \
  " \"diffusion\": {\"levels\": 30, \"objective\": \"v\", \"schedule\": \"cosine\"},"              \
  " \"tokens\": {\"frame_stack\": 2, \"present\": true, \"fields\": [{\"name\": \"a\", \"mean\": " \
  "100, \"std\": 3}]},"                                                                            \
  " \"sampling\": {\"schedule\": \"pyramid\", \"steps\": 4, \"max_tokens\": 5}}"

// Of every denoiser.
static const char *const configs[] = {
    "{\"format\": \"diffusion-forcing/1\", \"name\": \"small\","
    " \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": 8, \"network_size\": 4, \"stop_head\": "
    "true, \"initial\": \"learned\"}," REST,
    "{\"format\": \"diffusion-forcing/1\", \"name\": \"small\","
    " \"denoiser\": {\"kind\": \"transformer\", \"network_size\": 8, \"layers\": 1, \"heads\": 2, "
    "\"window\": 5, \"stop_head\": true}," REST,
};
static int which; // of configs

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
  *p = (parts){.meta = {"config", configs[which], NULL}};
  if (!CHECK_OK(df_config_parse(&p->config, configs[which], strlen(configs[which]), &test_error)) ||
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

// Matrices in 8 bits
static void make_bytes(parts *p) {
  for (int i = 0; i < p->count; i++)
    if (p->tensors[i].dims == 2) p->tensors[i].dtype = DF_I8;
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

static void check_file(void) {
  parts p;
  df_model *model = NULL;
  if (make_parts(&p) && CHECK_OK(open_parts(&p, &model))) {
    CHECK_TEXT(df_model_config(model), configs[which]);
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

TEST(a_model_file_opens_and_samples_in_data_units) {
  for (which = 0; which < COUNT(configs); which++) {
    DURING("%s", configs[which]);
    check_file();
  }
  CHECK(!df_denoisers(which)); // there are no others
  which = 0;
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
      message = "tensor x_from_z.weight: expected F32, F16, BF16 or I8, found I64";
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

static void cut_anywhere(bool eight_bits) {
  parts p;
  void *bytes = NULL;
  size_t size = 0;
  if (!make_parts(&p)) return;
  if (eight_bits) make_bytes(&p);
  if (CHECK_OK(df_safetensors_write(&bytes, &size, p.tensors, p.count, p.meta, &test_error)))
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

TEST(a_model_file_cut_anywhere_is_an_error) { cut_anywhere(false); }
TEST(a_file_of_8_bits_cut_anywhere_is_an_error) { cut_anywhere(true); }

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
  static const df_dtype dtypes[] = {DF_F32, DF_F16, DF_BF16, DF_I8};
  for (int d = 0; d < COUNT(dtypes); d++) {
    parts p;
    void *bytes = NULL;
    size_t size = 0;
    df_model *whole = NULL;
    if (!make_parts(&p)) break;
    for (int i = 0; dtypes[d] != DF_I8 && i < p.count; i += 1 + d)
      p.tensors[i].dtype = dtypes[d]; // mixed widths
    if (dtypes[d] == DF_I8) make_bytes(&p);
    if (CHECK_OK(df_safetensors_write(&bytes, &size, p.tensors, p.count, p.meta, &test_error)) &&
        CHECK_OK(df_model_open(&whole, bytes, size, &test_error)))
      for (int i = 0; i < 2 * COUNT(pieces); i++) {
        df_model *model;
        size_t n = pieces[i / 2];
        DURING("%s, pieces of %zu", df_dtype_name(dtypes[d]), n);
        if (!CHECK_OK(load_pieces(&model, bytes, size, n, i % 2 ? size : SIZE_MAX))) continue;
        CHECK_TEXT(df_model_config(model), configs[which]);
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

static void refused_in_pieces(bool eight_bits) {
  parts p;
  char *bytes = NULL;
  size_t size = 0;
  if (!make_parts(&p)) return;
  if (eight_bits) make_bytes(&p);
  if (CHECK_OK(
          df_safetensors_write((void **)&bytes, &size, p.tensors, p.count, p.meta, &test_error)))
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

TEST(a_file_in_pieces_is_refused_with_the_same_words) { refused_in_pieces(false); }
TEST(a_file_of_8_bits_in_pieces_is_refused_with_the_same_words) { refused_in_pieces(true); }

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

// ---- Weights of 8 bits ----

// A file of these tensors in this order, whatever they are. malloc'ed.
static void *write_views(const df_view *views, int count, size_t *size) {
  df_json_writer w = {0};
  size_t at = 0;
  df_json_object_begin(&w, NULL);
  df_json_object_begin(&w, "__metadata__");
  df_json_put_string(&w, "config", configs[which]);
  df_json_object_end(&w);
  for (int i = 0; i < count; i++) {
    const size_t bytes = views[i].count * df_dtype_size(views[i].dtype);
    df_json_object_begin(&w, views[i].name);
    df_json_put_string(&w, "dtype", df_dtype_name(views[i].dtype));
    df_json_array_begin(&w, "shape");
    for (int d = 0; d < views[i].dims; d++) df_json_put_number(&w, NULL, (double)views[i].shape[d]);
    df_json_array_end(&w);
    df_json_array_begin(&w, "data_offsets");
    df_json_put_number(&w, NULL, (double)at);
    df_json_put_number(&w, NULL, (double)(at += bytes));
    df_json_array_end(&w);
    df_json_object_end(&w);
  }
  df_json_object_end(&w);
  const uint64_t length = w.size;
  char *out = malloc(8 + w.size + at), *to = out + 8 + w.size;
  memcpy(out, &length, 8);
  memcpy(out + 8, w.text, w.size);
  *size = 8 + w.size + at;
  for (int i = 0; i < count; i++) {
    const size_t bytes = views[i].count * df_dtype_size(views[i].dtype);
    memcpy(to, views[i].data, bytes);
    to += bytes;
  }
  df_json_writer_free(&w);
  return out;
}

// The tensors of a file in which all matrices have 8 bits.
typedef struct bytes_file {
  parts p;
  void *bytes;
  df_safetensors file;
  df_view views[2 * MAX_TENSORS]; // may be changed
  int count;
} bytes_file;

static bool make_bytes_file(bytes_file *f) {
  size_t size;
  *f = (bytes_file){.bytes = NULL};
  if (!make_parts(&f->p)) return false;
  make_bytes(&f->p);
  if (!CHECK_OK(df_safetensors_write(&f->bytes, &size, f->p.tensors, f->p.count, f->p.meta,
                                     &test_error)) ||
      !CHECK_OK(df_safetensors_open(&f->file, f->bytes, size, &test_error)))
    return false;
  f->count = f->file.count;
  memcpy(f->views, f->file.views, (size_t)f->count * sizeof *f->views);
  return true;
}

static void drop_bytes_file(bytes_file *f) {
  df_safetensors_close(&f->file);
  df_free(f->bytes);
  drop_parts(&f->p);
}

static int place_of(const bytes_file *f, const char *name) {
  for (int i = 0; i < f->count; i++)
    if (!strcmp(f->views[i].name, name)) return i;
  CHECK(!"the tensor is in the file");
  return 0;
}

static df_status open_views(const bytes_file *f, df_model **model) {
  size_t size;
  void *bytes = write_views(f->views, f->count, &size);
  df_status status = df_model_open(model, bytes, size, &test_error);
  free(bytes);
  return status;
}

static int scales_first(const void *a, const void *b) {
  const df_view *x = a, *y = b;
  const bool scale_x = strstr(x->name, ".scale"), scale_y = strstr(y->name, ".scale");
  return scale_x != scale_y ? scale_y - scale_x : strcmp(x->name, y->name);
}

TEST(eight_bits_are_whole_numbers_times_the_scale_of_their_row) {
  bytes_file f;
  if (make_bytes_file(&f))
    for (int order = 0; order < 3; order++) {
      DURING("order %d", order);
      if (order == 1) qsort(f.views, (size_t)f.count, sizeof *f.views, scales_first);
      if (order == 2) // scales last: the first order backwards, and the other names turned round
        for (int i = 0; i < f.count / 2; i++) {
          const df_view kept = f.views[i];
          f.views[i] = f.views[f.count - 1 - i], f.views[f.count - 1 - i] = kept;
        }
      df_model *model;
      if (!CHECK_OK(open_views(&f, &model))) continue;
      CHECK_TEXT(df_model_format(model), "int8");
      CHECK_INT(df_model_parameters(model), df_params_count(&f.p.params));
      for (int i = 0; i < model->params.count; i++) {
        const df_param *p = model->params.items[i], *before = f.p.params.items[i];
        const int n = p->rows * p->cols;
        char name[128];
        snprintf(name, sizeof name, "%s.scale", p->name);
        const df_view *numbers = &f.views[place_of(&f, p->name)];
        if (p->dims == 1) {
          CHECK_FLOATS(p->value, before->value, n, 0);
          continue;
        }
        const df_view *scales = &f.views[place_of(&f, name)];
        for (int j = 0; j < n; j++) {
          float q, scale;
          df_view_floats(numbers, (size_t)j, 1, &q);
          df_view_floats(scales, (size_t)(j / p->cols), 1, &scale);
          CHECK_NEAR(p->value[j], q * scale, 0);
          CHECK_NEAR(p->value[j], before->value[j], 0.5001 * (double)scale);
        }
      }
      float out[10];
      sample(model, out);
      CHECK(isfinite(out[0]));
      df_model_free(model);
    }
  drop_bytes_file(&f);
}

TEST(what_is_wrong_with_8_bits_is_named) {
  static const struct {
    const char *message;
    df_status status;
  } cases[] = {
      {"tensor x_from_z.weight is I8: expected its scales, tensor x_from_z.weight.scale, found "
       "none",
       DF_BAD_FILE},
      {"tensor x_from_z.weight.scale: expected shape (4), found (2, 2)", DF_BAD_SHAPE},
      {"tensor x_from_z.weight.scale: expected shape (4), found (2)", DF_BAD_SHAPE},
      {"tensor x_from_z.weight.scale: expected F32, found F16", DF_BAD_FILE},
      {"tensor x_from_z.bias.scale: expected none, as tensor x_from_z.bias is F32 and not I8",
       DF_BAD_FILE},
      {"tensor x_from_z.bias: expected F32, F16 or BF16 (it is a vector), found I8", DF_BAD_FILE},
      {"tensor x_from_z.weight.scale: entry 2 is nan", DF_BAD_VALUE},
      {"tensor x_from_z.weight.scale: entry 1 is inf", DF_BAD_VALUE},
      {"tensor x_from_z.weight.scale: entry 3 is -0.25, expected 0 or more", DF_BAD_VALUE},
      {"tensor x_from_z.weight: entry 5 is -128, expected -127 to 127", DF_BAD_VALUE},
      {"tensor x_from_z.weight: entry 0 is ", DF_BAD_VALUE}, // scale and number make infinity
      {"tensor x_from_w.weight.scale is not part of the network", DF_BAD_FILE},
      {"tensor x_from_z.weight.scale.scale is not part of the network", DF_BAD_FILE},
      {"tensor .scale is not part of the network", DF_BAD_FILE},
  };
  for (int i = 0; i < COUNT(cases); i++)
    for (int first = 0; first < 2; first++) { // the scales before the numbers
      bytes_file f;
      DURING("case %d, %d", i, first);
      if (!make_bytes_file(&f)) break;
      if (first) qsort(f.views, (size_t)f.count, sizeof *f.views, scales_first);
      float scales[4] = {1, 1, 1, 1};
      int8_t numbers[32] = {127, 1, -127};
      df_view *weight = &f.views[place_of(&f, "x_from_z.weight")],
              *scale = &f.views[place_of(&f, "x_from_z.weight.scale")],
              *bias = &f.views[place_of(&f, "x_from_z.bias")], *more = &f.views[f.count];
      weight->data = numbers, scale->data = scales;
      switch (i) {
      case 0: *scale = f.views[--f.count]; break;
      case 1: scale->dims = 2, scale->shape[0] = scale->shape[1] = 2; break;
      case 2: scale->shape[0] = 2, scale->count = 2; break;
      case 3: scale->dtype = DF_F16; break;
      case 4: *more = *bias, more->name = "x_from_z.bias.scale", f.count++; break;
      case 5: bias->dtype = DF_I8; break;
      case 6: scales[2] = NAN; break;
      case 7: scales[1] = INFINITY; break;
      case 8: scales[3] = -0.25f; break;
      case 9: numbers[5] = -128; break;
      case 10: scales[0] = 3e38f; break;
      case 11: *more = *scale, more->name = "x_from_w.weight.scale", f.count++; break;
      case 12: *more = *scale, more->name = "x_from_z.weight.scale.scale", f.count++; break;
      case 13: *more = *scale, more->name = ".scale", f.count++; break;
      }
      df_model *model;
      if (CHECK_STATUS(open_views(&f, &model), cases[i].status))
        CHECK_CONTAINS(test_error.message, cases[i].message);
      CHECK(model == NULL);
      drop_bytes_file(&f);
    }
}

TEST(a_row_of_zeros_stays_one) {
  parts p;
  df_model *model = NULL;
  if (make_parts(&p)) {
    df_param *head = df_params_find(&p.params, "x_from_z.weight");
    memset(head->value + head->cols, 0, (size_t)head->cols * sizeof *head->value);
    make_bytes(&p);
    if (CHECK_OK(open_parts(&p, &model))) {
      const float *row = df_params_find(&model->params, "x_from_z.weight")->value + head->cols;
      for (int i = 0; i < head->cols; i++) CHECK(row[i] == 0);
    }
  }
  df_model_free(model);
  drop_parts(&p);
}

TEST(a_model_tells_the_format_of_its_file) {
  static const df_dtype dtypes[] = {DF_F32, DF_F16, DF_BF16, DF_I8};
  static const char *const names[] = {"f32", "f16", "bf16", "int8"};
  for (int i = 0; i < COUNT(dtypes); i++) {
    parts p;
    df_model *model = NULL;
    if (make_parts(&p)) {
      find(&p, "x_from_z.weight")->dtype = dtypes[i];
      if (CHECK_OK(open_parts(&p, &model))) CHECK_TEXT(df_model_format(model), names[i]);
    }
    df_model_free(model);
    drop_parts(&p);
  }
}

// A model of matrices that are large enough for products in 8 bits.
TEST(products_in_8_bits_find_the_numbers_of_the_file_again) {
  static const char wide[] =
      "{\"format\": \"diffusion-forcing/1\", \"denoiser\": {\"kind\": \"rnn\", \"latent_size\": "
      "160,"
      " \"network_size\": 8}, \"diffusion\": {\"levels\": 30, \"objective\": \"x0\", \"schedule\": "
      "\"cosine\"}, \"tokens\": {\"frame_stack\": 2, \"fields\": [{\"name\": \"a\"}]},"
      " \"sampling\": {\"steps\": 4, \"max_tokens\": 5}}";
  df_config config;
  df_params params = {0};
  df_tensor_out tensors[MAX_TENSORS];
  const char *meta[] = {"config", wide, NULL};
  float estimates[2][10] = {{0}}; // of the weights as they are, and of those in the file
  if (!CHECK_OK(df_config_parse(&config, wide, strlen(wide), &test_error))) return;
  bool ok = CHECK_OK(df_network_declare(&config.network, &params, &test_error));
  if (ok) df_params_init(&params, 3);
  for (int eight = 0; ok && eight < 2; eight++) {
    void *bytes = NULL;
    size_t size;
    df_model *model = NULL;
    int large = 0;
    for (int i = 0; i < params.count; i++) {
      const df_param *p = params.items[i];
      const bool small = p->dims == 1 || p->rows * p->cols < DF_WEIGHTS_LEAST;
      large += !small;
      tensors[i] = (df_tensor_out){
          p->name, eight && !small ? DF_I8 : DF_F32, p->dims, {p->rows, p->cols}, p->value};
      if (p->dims == 1) tensors[i].shape[0] = p->cols;
    }
    CHECK(large >= 4);
    df_sampler_options o = df_sampler_defaults();
    o.weights = DF_WEIGHTS_INT8, o.length = 5, o.seed = 3;
    df_sampler *s = NULL;
    if (CHECK_OK(df_safetensors_write(&bytes, &size, tensors, params.count, meta, &test_error)) &&
        CHECK_OK(df_model_open(&model, bytes, size, &test_error)) &&
        CHECK_OK(df_sampler_create(&s, model, &o, &test_error))) {
      while (!df_sampler_done(s))
        if (!CHECK_OK(df_sampler_step(s, &test_error))) break;
      memcpy(estimates[eight], df_sampler_state(s)->estimates, sizeof estimates[eight]);
    }
    df_sampler_free(s);
    // Written once more, they are the same numbers.
    if (model && eight) {
      void *again = NULL;
      size_t again_size;
      for (int i = 0; i < params.count; i++) tensors[i].data = model->params.items[i]->value;
      df_safetensors a, b;
      if (CHECK_OK(df_safetensors_write(&again, &again_size, tensors, params.count, meta,
                                        &test_error)) &&
          CHECK_OK(df_safetensors_open(&a, bytes, size, &test_error)) &&
          CHECK_OK(df_safetensors_open(&b, again, again_size, &test_error))) {
        for (int i = 0; i < a.count; i++)
          if (a.views[i].dtype == DF_I8)
            CHECK(!memcmp(a.views[i].data, b.views[i].data, a.views[i].count));
        df_safetensors_close(&a), df_safetensors_close(&b);
      }
      df_free(again);
    }
    df_model_free(model);
    df_free(bytes);
  }
  // The scales differ in their last bit at most.
  CHECK_FLOATS(estimates[0], estimates[1], 10, 1e-5);
  CHECK(estimates[0][0] != 0);
  df_params_free(&params);
  df_config_free(&config);
}

TEST(models_and_samplers_are_made_without_memory) {
  parts p;
  void *bytes = NULL;
  size_t size = 0;
  df_model *model = NULL;
  df_sampler *s = NULL;
  if (make_parts(&p) && (find(&p, "x_from_z.weight")->dtype = DF_I8) &&
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
