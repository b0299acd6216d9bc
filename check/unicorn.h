/* SPDX-License-Identifier: MIT */
#if !__has_include(<unicorn/unicorn.h>)
#error check steps the sections in libunicorn, which is not here: apt-get install libunicorn-dev
#else
#include <unicorn/unicorn.h>
#endif
