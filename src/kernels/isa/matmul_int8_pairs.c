// The relaxed dot product is one instruction on ARM and on x86 with AVX-VNNI, three elsewhere; then multiplying 16 bits in
// pairs, as the plain build does, is faster. So the relaxed build has both, and dispatch.c chooses. The sums are exact:
// the results have the same bits.
#include "kernels/isa/isa.h"

#if DF_IS(relaxed)
#define DF_PAIRS
#include "kernels/isa/matmul_int8.c"
#endif
