// A graphics card for tests of memory: a ggml device that holds tensors as
// CUDA's buffers do and takes the work that CUDA takes, in the machine's RAM.
// llama.cpp v0.5.0 loads models onto it and plans its graphs for it; nothing
// runs on it. The rules are those of ggml-cuda.cu and fattn.cu for a card with
// tensor cores: alignment and padding of tensors, room for F16 copies of a
// cache that its attention cannot read, which attention it has at all, and
// which work on weights in RAM it takes over.
//
// c++ -std=c++17 -shared -fPIC -DGGML_BACKEND_DL -I SRC/ggml/include -I SRC/ggml/src card.cpp
#include "ggml-backend-impl.h"

#include <cstring>
#include <initializer_list>

namespace {

constexpr size_t alignment = 128;
constexpr int64_t row_padding = 512;
constexpr int64_t offload_batch = 32;

ggml_backend_reg_t card_reg();
ggml_backend_dev_t card_device();

// get_best_fattn_kernel: whether there is one for the shapes and types.
bool attends(const ggml_tensor * op) {
    const ggml_tensor * q = op->src[0];
    const ggml_tensor * k = op->src[1];
    const ggml_tensor * v = op->src[2];
    const ggml_tensor * mask = op->src[3];
    const int64_t queries = q->ne[2] / k->ne[2];
    float max_bias = 0.0f;
    memcpy(&max_bias, (const float *) op->op_params + 1, sizeof(float));
    bool grouped = queries >= 2 && mask != nullptr && max_bias == 0.0f && k->ne[1] % 256 == 0;
    for (const ggml_tensor * t : {q, k, v, mask}) {
        for (int i = 1; t != nullptr && !ggml_is_quantized(t->type) && i < GGML_MAX_DIMS; i++) {
            grouped = grouped && t->nb[i] % 16 == 0;
        }
    }
    for (const ggml_tensor * t : {k, v}) {
        switch (t->type) {
            case GGML_TYPE_F32: case GGML_TYPE_F16: case GGML_TYPE_BF16: case GGML_TYPE_Q4_0: case GGML_TYPE_Q4_1:
            case GGML_TYPE_Q5_0: case GGML_TYPE_Q5_1: case GGML_TYPE_Q8_0: break;
            default: return false;
        }
    }
    if (mask != nullptr && mask->ne[2] != 1) {
        return false;
    }
    switch (k->ne[0]) {
        case 40: case 64: case 72: case 80: case 96: case 112: case 128: case 256: return v->ne[0] == k->ne[0];
        case 192: return v->ne[0] == 128 && grouped && queries % 8 == 0;
        case 320: return v->ne[0] == 256 && grouped && queries % 32 == 0;
        case 512: return v->ne[0] == 512 && grouped;
        case 576: return v->ne[0] == 512 && grouped;
    }
    return false;
}

// get_f16_extra_data, for more than two tokens at once.
size_t attention_bytes(const ggml_tensor * op) {
    const ggml_tensor * k = op->src[1];
    const ggml_tensor * v = op->src[2];
    size_t end = ggml_nbytes(op);
    if (op->src[0]->ne[1] <= 2) {
        return end;
    }
    if (k->type != GGML_TYPE_F16) {
        end = GGML_PAD(end, 128) + ggml_nelements(k) * 2;
    }
    const bool view = v->view_src && (v->view_src == k || (v->view_src == k->view_src && v->view_offs == k->view_offs));
    if (v->type != GGML_TYPE_F16 && !view) {
        end = GGML_PAD(end, 128) + ggml_nelements(v) * 2;
    }
    return end;
}

// Buffers: those of the CPU, aligned and padded.

const char * buffer_name(ggml_backend_buffer_type_t) { return "CARD0"; }
const char * host_buffer_name(ggml_backend_buffer_type_t) { return "CARD_Host"; }
size_t buffer_alignment(ggml_backend_buffer_type_t) { return alignment; }

size_t buffer_tensor_bytes(ggml_backend_buffer_type_t, const ggml_tensor * t) {
    size_t size = t->op == GGML_OP_FLASH_ATTN_EXT ? attention_bytes(t) : ggml_nbytes(t);
    if (ggml_is_quantized(t->type) && t->ne[0] % row_padding != 0) {
        size += ggml_row_size(t->type, row_padding - t->ne[0] % row_padding);
    }
    return size;
}

void * buffer_base(ggml_backend_buffer_t buffer) { return (void *) GGML_PAD((uintptr_t) buffer->context, alignment); }

ggml_backend_buffer_t buffer_alloc(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size + alignment);
    if (buffer != nullptr) {
        buffer->buft = type;
        buffer->size = size;
        buffer->iface.get_base = buffer_base;
    }
    return buffer;
}

ggml_backend_buffer_t host_buffer_alloc(ggml_backend_buffer_type_t type, size_t size) {
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), size);
    if (buffer != nullptr) {
        buffer->buft = type;
    }
    return buffer;
}

ggml_backend_buffer_type_t buffer_type(ggml_backend_dev_t device) {
    static ggml_backend_buffer_type type = {{buffer_name, buffer_alloc, buffer_alignment, nullptr, buffer_tensor_bytes, nullptr}, device, nullptr};
    return &type;
}

ggml_backend_buffer_type_t host_buffer_type(ggml_backend_dev_t device) {
    const auto & cpu = ggml_backend_cpu_buffer_type()->iface;
    static ggml_backend_buffer_type type = {{host_buffer_name, host_buffer_alloc, cpu.get_alignment, nullptr, cpu.get_alloc_size, cpu.is_host}, device, nullptr};
    return &type;
}

// The backend.

const char * backend_name(ggml_backend_t) { return "CARD0"; }
void backend_free(ggml_backend_t backend) { delete backend; }
ggml_status backend_compute(ggml_backend_t, ggml_cgraph *) { return GGML_STATUS_FAILED; }

ggml_backend_t backend_init(ggml_backend_dev_t device, const char *) {
    static ggml_guid guid = {'g', 'g', 'u', 'f', 'p', 'l', 'a', 'n', ' ', 't', 'e', 's', 't', 'c', 'r', 'd'};
    ggml_backend_i iface = {};
    iface.get_name = backend_name;
    iface.free = backend_free;
    iface.graph_compute = backend_compute;
    return new ggml_backend{&guid, iface, device, nullptr};
}

// The device.

const char * device_name(ggml_backend_dev_t) { return "CARD0"; }
const char * device_description(ggml_backend_dev_t) { return "a card that holds tensors as CUDA does"; }
enum ggml_backend_dev_type device_type(ggml_backend_dev_t) { return GGML_BACKEND_DEVICE_TYPE_GPU; }
void device_memory(ggml_backend_dev_t, size_t * free, size_t * total) { *free = *total = (size_t) 1 << 40; }

void device_props(ggml_backend_dev_t, ggml_backend_dev_props * props) {
    *props = {"CARD0", "", 0, 0, GGML_BACKEND_DEVICE_TYPE_GPU, nullptr, {true, true, false, false, true}};
    device_memory(nullptr, &props->memory_free, &props->memory_total);
}

bool device_supports_op(ggml_backend_dev_t, const ggml_tensor * op) { return op->op != GGML_OP_FLASH_ATTN_EXT || attends(op); }
bool device_supports_buft(ggml_backend_dev_t device, ggml_backend_buffer_type_t type) { return type == buffer_type(device); }

bool device_offload_op(ggml_backend_dev_t, const ggml_tensor * op) {
    switch (op->op) {
        case GGML_OP_GET_ROWS: return false;
        case GGML_OP_MUL_MAT: return op->ne[1] >= offload_batch;
        case GGML_OP_MUL_MAT_ID:
        case GGML_OP_ROPE: return op->ne[2] >= offload_batch;
        default: return ggml_nrows(op) >= offload_batch;
    }
}

ggml_backend_dev_t card_device() {
    static ggml_backend_device device = {{device_name, device_description, device_memory, device_type, device_props, backend_init, buffer_type,
        host_buffer_type, nullptr, device_supports_op, device_supports_buft, device_offload_op, nullptr, nullptr, nullptr}, card_reg(), nullptr};
    return &device;
}

const char * reg_name(ggml_backend_reg_t) { return "CARD"; }
size_t reg_devices(ggml_backend_reg_t) { return 1; }
ggml_backend_dev_t reg_device(ggml_backend_reg_t, size_t) { return card_device(); }
void * reg_address(ggml_backend_reg_t, const char *) { return nullptr; }

ggml_backend_reg_t card_reg() {
    static ggml_backend_reg reg = {GGML_BACKEND_API_VERSION, {reg_name, reg_devices, reg_device, reg_address}, nullptr};
    return &reg;
}

}

GGML_BACKEND_DL_IMPL(card_reg)
