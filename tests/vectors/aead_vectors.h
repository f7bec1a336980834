/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Published known answers for the bare AEADs: the GCM specification NIST took over (McGrew, Viega,
 * "The Galois/Counter Mode of Operation", appendix B; cases with 96-bit IV and keys we carry) and RFC 8439;
 * sealed is ciphertext and tag. And for AES-GMAC, which authenticates all of text: NIST's and IEEE 802.1AE's
 * (K. Randall, bn-randall-test-vectors-0511-v1, 2011).
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
	{"NIST GCM, test case 4", AEAD_AES_GCM_128,
		"feffe9928665731c6d6a8f9467308308",
		"cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		/* plain */
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
		/* sealed */
		"42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
		"21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"
		"5bc94fbc3221a5db94fae95ae7121a47"},
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
	{"NIST GCM, test case 16", AEAD_AES_GCM_256,
		"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
		"cafebabefacedbaddecaf888", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		/* plain */
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
		/* sealed */
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
		"76fc6ece0f4e1768cddf8853bb2d551b"},
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

struct gmac_vector {
	const char *source;
	enum aead_alg alg;
	const char *key, *nonce, *text, *tag;
};

static const struct gmac_vector gmac_vectors[] = {
	{"NIST GMAC, AES-128, 16 bytes", AEAD_AES_GMAC_128,
		"77be63708971c4e240d1cb79e8d77feb",
		"e0e00f19fed7ba0136a797f3",
		/* text */
		"7a43ec1d9c0a5a78a0b16533a6213cab",
		/* tag */
		"209fcc8d3675ed938e9c7166709dd946"},
	{"IEEE 802.1AE, 54-byte packet authentication, GCM-AES-128", AEAD_AES_GMAC_128,
		"ad7a2bd03eac835a6f620fdcb506b345",
		"12153524c0895e81b2c28465",
		/* text */
		"d609b1f056637a0d46df998d88e5222ab2c2846512153524c0895e8108000f10"
		"1112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30"
		"313233340001",
		/* tag */
		"f09478a9b09007d06f46e9b6a1da25dd"},
	{"IEEE 802.1AE, 54-byte packet authentication, GCM-AES-256", AEAD_AES_GMAC_256,
		"e3c08a8f06c6e3ad95a70557b23f75483ce33021a9c72b7025666204c69c0b72",
		"12153524c0895e81b2c28465",
		/* text */
		"d609b1f056637a0d46df998d88e5222ab2c2846512153524c0895e8108000f10"
		"1112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30"
		"313233340001",
		/* tag */
		"2f0bc5af409e06d609ea8b7d0fa5ea50"},
	{"IEEE 802.1AE, 79-byte packet authentication, GCM-AES-256", AEAD_AES_GMAC_256,
		"4c973dbc7364621674f8b5b89e5c15511fced9216490fb1c1a2caa0ffe0407e5",
		"7ae8e2ca4ec500012e58495c",
		/* text */
		"68f2e77696ce7ae8e2ca4ec588e541002e58495c08000f101112131415161718"
		"191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738"
		"393a3b3c3d3e3f404142434445464748494a4b4c4d0007",
		/* tag */
		"00bda1b7e87608bcbf470f12157f4c07"},
};

#endif
