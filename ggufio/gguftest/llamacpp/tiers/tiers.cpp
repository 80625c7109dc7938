// Lets stock libllama v0.5.0 run tier files: preloaded (LD_PRELOAD), it stands
// before three of the library's functions, which the library calls through its
// linkage table. The loader's lines are those that ggufplan patch-llamacpp
// inserts. The product is not: ggml as it is cannot skip an empty slot, so here
// each tier multiplies all slots, foreign ones by its first expert, and a mask
// makes their rows zero. That is exact, takes as many times longer as there are
// tiers, and needs plain kernels (use_extra_bufts = false), since repacked ones
// take no id twice in a token.
//
// c++ -std=c++17 -shared -fPIC -I SRC/src -I SRC/include -I SRC/ggml/include -I LINES tiers.cpp
#include "llama-graph.h"
#include "llama-model-loader.h"
#include "llama-model.h"

#include <algorithm>
#include <cstring>
#include <dlfcn.h>
#include <stdexcept>

#include "hparams-types.txt"

namespace {

// The models' own in the patch; here there is one for all.
llama_expert_tiers_map expert_tiers;

struct {
    const llama_expert_tiers_map * expert_tiers;
} tiers_of;

template <typename F> F stock(const char * symbol) {
    void * f = dlsym(RTLD_NEXT, symbol);
    if (f == nullptr) {
        throw std::runtime_error(std::string(symbol) + ": libllama has no such function, or was not loaded with RTLD_GLOBAL");
    }
    return reinterpret_cast<F>(f);
}

}

ggml_tensor * llama_model_base::create_tensor(llama_model_loader & ml, const LLM_TN_IMPL & tn, const std::initializer_list<int64_t> & ne, int flags) {
    using function = ggml_tensor * (*)(llama_model_base *, llama_model_loader &, const LLM_TN_IMPL &, const std::initializer_list<int64_t> &, int);
    static const auto next = stock<function>("_ZN16llama_model_base13create_tensorER18llama_model_loaderRK11LLM_TN_IMPLRKSt16initializer_listIlEi");
#define hparams tiers_of
#include "model-hook.txt"
#undef hparams
    ggml_tensor * t = next(this, ml, tn, ne, flags);
    expert_tiers.erase(t); // it may stand where one of a model stood that is gone
    return t;
}

ggml_tensor * llm_graph_context::build_lora_mm_id(ggml_tensor * w, ggml_tensor * cur, ggml_tensor * ids, ggml_tensor * w_s) const {
    using function = ggml_tensor * (*)(const llm_graph_context *, ggml_tensor *, ggml_tensor *, ggml_tensor *, ggml_tensor *);
    static const auto next = stock<function>("_ZNK17llm_graph_context16build_lora_mm_idEP11ggml_tensorS1_S1_S1_");
    const auto found = expert_tiers.find(w);
    if (found == expert_tiers.end()) {
        return next(this, w, cur, ids, w_s);
    }
    if (w_s != nullptr || !loras->empty()) {
        throw std::runtime_error("expert tiers with scales or adapters are not for this library");
    }
    const llama_expert_tiers & tiers = found->second;
    ggml_tensor * flat = ggml_reshape_1d(ctx0, ggml_cont(ctx0, ids), ggml_nelements(ids));
    ggml_tensor * sum  = nullptr;
    for (size_t k = 0; k < tiers.weights.size(); ++k) {
        ggml_tensor * column = ggml_view_2d(ctx0, tiers.table, 1, tiers.table->ne[0], sizeof(int32_t), k*tiers.table->nb[1]);
        ggml_tensor * at     = ggml_cast(ctx0, ggml_get_rows(ctx0, column, flat), GGML_TYPE_F32); // -1 in a foreign slot
        ggml_tensor * local  = ggml_cast(ctx0, ggml_relu(ctx0, at), GGML_TYPE_I32);
        ggml_tensor * mask   = ggml_step(ctx0, ggml_scale_bias(ctx0, at, 1.0f, 1.0f));
        ggml_tensor * part   = ggml_mul_mat_id(ctx0, tiers.weights[k], cur, ggml_reshape_2d(ctx0, local, ids->ne[0], ids->ne[1]));
        part = ggml_mul(ctx0, part, ggml_reshape_3d(ctx0, mask, 1, ids->ne[0], ids->ne[1]));
        sum  = sum == nullptr ? part : ggml_add(ctx0, sum, part);
    }
    return sum;
}

// The room for graph nodes follows from the number of tensors: eight each. A
// tier takes twelve.
size_t llama_model::n_tensors() const {
    using function = size_t (*)(const llama_model *);
    static const auto next = stock<function>("_ZNK11llama_model9n_tensorsEv");
    size_t n = next(this);
    for (const auto & x : expert_tiers) {
        n += x.second.weights.size();
    }
    return n;
}
