/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Published known answers for the bare AEADs: the GCM specification NIST took over (McGrew, Viega,
 * "The Galois/Counter Mode of Operation", appendix B; cases with 96-bit IV and AAD that fits ESP)
 * and RFC 8439. sealed is ciphertext and tag.
 */
#ifndef AEAD_VECTORS_H
#define AEAD_VECTORS_H

#include "aead.h"

struct aead_vector {
	const char *source;
	enum aead_alg alg;
	const char *key, *nonce, *aad, *plain, *sealed;
};

static const struct aead_vector aead_vectors[] = {
	{"NIST GCM, McGrew and Viega revised spec, test case 1", AEAD_AES_GCM_128,
		"00000000000000000000000000000000",
		"000000000000000000000000", "",
		/* plain */
		"",
		/* sealed */
		"58e2fccefa7e3061367f1d57a4e7455a"},
	{"NIST GCM, test case 2", AEAD_AES_GCM_128,
		"00000000000000000000000000000000",
		"000000000000000000000000", "",
		/* plain */
		"00000000000000000000000000000000",
		/* sealed */
		"0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"},
	{"NIST GCM, test case 3", AEAD_AES_GCM_128,
		"feffe9928665731c6d6a8f9467308308",
		"cafebabefacedbaddecaf888", "",
		/* plain */
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
		/* sealed */
		"42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
		"21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985"
		"4d5c2af327cd64a62cf35abd2ba6fab4"},
	{"NIST GCM, test case 13", AEAD_AES_GCM_256,
		"0000000000000000000000000000000000000000000000000000000000000000",
		"000000000000000000000000", "",
		/* plain */
		"",
		/* sealed */
		"530f8afbc74536b9a963b4f1c4cb738b"},
	{"NIST GCM, test case 14", AEAD_AES_GCM_256,
		"0000000000000000000000000000000000000000000000000000000000000000",
		"000000000000000000000000", "",
		/* plain */
		"00000000000000000000000000000000",
		/* sealed */
		"cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"},
	{"NIST GCM, test case 15", AEAD_AES_GCM_256,
		"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		"cafebabefacedbaddecaf888", "",
		/* plain */
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
		/* sealed */
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
		"b094dac5d93471bdec1a502270e3cc6c"},
	{"RFC 8439 section 2.8.2", AEAD_CHACHA20_POLY1305,
		"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
		"070000004041424344454647", "50515253c0c1c2c3c4c5c6c7",
		/* plain */
		"4c616469657320616e642047656e746c656d656e206f662074686520636c6173"
		"73206f66202739393a204966204920636f756c64206f6666657220796f75206f"
		"6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73"
		"637265656e20776f756c642062652069742e",
		/* sealed */
		"d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
		"3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
		"92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
		"3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd060"
		"0691"},
};

#endif
