/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two halves of the CBC suites, published apart: ciphertexts of AES-CBC (RFC 3602 section 4, where
 * cases 5 to 8 are the encrypted parts of ESP packets, transport and tunnel; NIST SP 800-38A for 256
 * bits) and truncated HMACs (RFC 4868 section 2.7.2; RFC 2202 section 3, cut as RFC 2404 2 says). Nobody
 * has published a whole packet.
 */
#ifndef CBC_VECTORS_H
#define CBC_VECTORS_H

#include "aead.h"

struct cbc_vector {
	const char *source;
	enum aead_alg alg;
	const char *key, *iv, *plain, *cipher;
};

static const struct cbc_vector cbc_vectors[] = {
	{"RFC 3602 section 4, case 1", AEAD_CBC_128_SHA256,
		"06a9214036b8a15b512e03d534120006",
		"3dafba429d9eb430b422da802c9fac41",
		/* plain */
		"53696e676c6520626c6f636b206d7367",
		/* cipher */
		"e353779c1079aeb82708942dbe77181a"},
	{"RFC 3602 section 4, case 2", AEAD_CBC_128_SHA256,
		"c286696d887c9aa0611bbb3e2025a45a",
		"562e17996d093d28ddb3ba695a2e6f58",
		/* plain */
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		/* cipher */
		"d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"},
	{"RFC 3602 section 4, case 3", AEAD_CBC_128_SHA256,
		"6c3ea0477630ce21a2ce334aa746c2cd",
		"c782dc4c098c66cbd9cd27d825682c81",
		/* plain */
		"5468697320697320612034382d62797465206d65737361676520286578616374"
		"6c7920332041455320626c6f636b7329",
		/* cipher */
		"d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5"
		"021c19216bad525c8579695d83ba2684"},
	{"RFC 3602 section 4, case 4", AEAD_CBC_128_SHA256,
		"56e47a38c5598974bc46903dba290349",
		"8ce82eefbea0da3c44699ed7db51b7d9",
		/* plain */
		"a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
		"c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf",
		/* cipher */
		"c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e"
		"35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55"},
	{"RFC 3602 section 4, case 5", AEAD_CBC_128_SHA256,
		"90d382b410eeba7ad938c46cec1a82bf",
		"e96e8c08ab465763fd098d45dd3ff893",
		/* plain */
		"08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f1011121314151617"
		"18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637"
		"0102030405060708090a0b0c0d0e0e01",
		/* cipher */
		"f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856"
		"a4699e523a55db080b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874a"
		"a269add047ad2d5913ac19b7cfbad4a6"},
	{"RFC 3602 section 4, case 6", AEAD_CBC_128_SHA256,
		"90d382b410eeba7ad938c46cec1a82bf",
		"69d08df7d203329db093fc4924e5bd80",
		/* plain */
		"0800b5e8a80a0500a69c083d0b660e0077777777777777777777777701020201",
		/* cipher */
		"f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75"},
	{"RFC 3602 section 4, case 7", AEAD_CBC_128_SHA256,
		"0123456789abcdef0123456789abcdef",
		"f4e765244f6407adf13dc1380f673f37",
		/* plain */
		"45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d"
		"02a2040008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223"
		"2425262728292a2b2c2d2e2f30313233343536370102030405060708090a0a04",
		/* cipher */
		"773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8"
		"e4ecaec78ac53aad7a0f022b859243c647752e94a859352b8a4d4d2decd136e5"
		"c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1c22f0d"},
	{"RFC 3602 section 4, case 8", AEAD_CBC_128_SHA256,
		"0123456789abcdef0123456789abcdef",
		"85d47224b5f3dd5d2101d4ea8dffab22",
		/* plain */
		"45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083d"
		"a3de0300ffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
		"ffffffff0102030405060708090a0a04",
		/* cipher */
		"15b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb5"
		"0f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3"
		"d2726d9b5ef6affc6d17a0decbb13892"},
	{"NIST SP 800-38A F.2.1, CBC-AES128", AEAD_CBC_128_SHA256,
		"2b7e151628aed2a6abf7158809cf4f3c",
		"000102030405060708090a0b0c0d0e0f",
		/* plain */
		"6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
		/* cipher */
		"7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
		"73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"},
	{"NIST SP 800-38A F.2.5, CBC-AES256", AEAD_CBC_256_SHA256,
		"603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
		"000102030405060708090a0b0c0d0e0f",
		/* plain */
		"6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
		"30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
		/* cipher */
		"f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
		"39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"},
};

struct hmac_vector {
	const char *source;
	enum aead_alg alg;
	const char *key, *text, *tag;
};

static const struct hmac_vector hmac_vectors[] = {
	{"RFC 2202 section 3, case 1", AEAD_CBC_128_SHA1,
		/* key */
		"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
		/* text */
		"4869205468657265",
		/* tag */
		"b617318655057264e28bc0b6"},
	{"RFC 2202 section 3, case 3", AEAD_CBC_256_SHA1,
		/* key */
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		/* text */
		"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
		"dddddddddddddddddddddddddddddddddddd",
		/* tag */
		"125d7342b9ac11cd91a39af4"},
	{"RFC 2202 section 3, case 5", AEAD_CBC_128_SHA1,
		/* key */
		"0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c",
		/* text */
		"546573742057697468205472756e636174696f6e",
		/* tag */
		"4c1a03424b55e07fe7f27be1"},
	{"RFC 4868 section 2.7.2.1, AUTH256-1", AEAD_CBC_256_SHA256,
		/* key */
		"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
		/* text */
		"4869205468657265",
		/* tag */
		"198a607eb44bfbc69903a0f1cf2bbdc5"},
	{"RFC 4868 section 2.7.2.1, AUTH256-2", AEAD_CBC_256_SHA256,
		/* key */
		"4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665",
		/* text */
		"7768617420646f2079612077616e7420666f72206e6f7468696e673f",
		/* tag */
		"167f928588c5cc2eef8e3093caa0e87c"},
	{"RFC 4868 section 2.7.2.1, AUTH256-3", AEAD_CBC_256_SHA256,
		/* key */
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		/* text */
		"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
		"dddddddddddddddddddddddddddddddddddd",
		/* tag */
		"cdcb1220d1ecccea91e53aba3092f962"},
	{"RFC 4868 section 2.7.2.1, AUTH256-4", AEAD_CBC_256_SHA256,
		/* key */
		"0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20",
		/* text */
		"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
		"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
		/* tag */
		"372efcf9b40b35c2115b1346903d2ef4"},
	{"RFC 4868 section 2.7.2.2, AUTH384-1", AEAD_CBC_256_SHA384,
		/* key */
		"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"
		"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
		/* text */
		"4869205468657265",
		/* tag */
		"b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973"},
	{"RFC 4868 section 2.7.2.2, AUTH384-2", AEAD_CBC_256_SHA384,
		/* key */
		"4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665"
		"4a6566654a6566654a6566654a656665",
		/* text */
		"7768617420646f2079612077616e7420666f72206e6f7468696e673f",
		/* tag */
		"2c7353974f1842fd66d53c452ca42122b28c0b594cfb184d"},
	{"RFC 4868 section 2.7.2.2, AUTH384-3", AEAD_CBC_256_SHA384,
		/* key */
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		/* text */
		"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
		"dddddddddddddddddddddddddddddddddddd",
		/* tag */
		"809f439be00274321d4a538652164b53554a508184a0c316"},
	{"RFC 4868 section 2.7.2.2, AUTH384-4", AEAD_CBC_256_SHA384,
		/* key */
		"0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
		"0a0b0c0d0e0f10111213141516171819",
		/* text */
		"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
		"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
		/* tag */
		"5b540085c6e6358096532b2493609ed1cb298f774f87bb5c"},
	{"RFC 4868 section 2.7.2.3, AUTH512-1", AEAD_CBC_256_SHA512,
		/* key */
		"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"
		"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
		/* text */
		"4869205468657265",
		/* tag */
		"637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8"},
	{"RFC 4868 section 2.7.2.3, AUTH512-2", AEAD_CBC_256_SHA512,
		/* key */
		"4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665"
		"4a6566654a6566654a6566654a6566654a6566654a6566654a6566654a656665",
		/* text */
		"7768617420646f2079612077616e7420666f72206e6f7468696e673f",
		/* tag */
		"cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b15454"},
	{"RFC 4868 section 2.7.2.3, AUTH512-3", AEAD_CBC_256_SHA512,
		/* key */
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		/* text */
		"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
		"dddddddddddddddddddddddddddddddddddd",
		/* tag */
		"2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8"},
	{"RFC 4868 section 2.7.2.3, AUTH512-4", AEAD_CBC_256_SHA512,
		/* key */
		"0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
		"2122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f40",
		/* text */
		"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
		"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
		/* tag */
		"5e6688e5a3daec826ca32eaea224eff5e700628947470e13ad01302561bab108"},
};

#endif
