#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
extern void __assert_c99(const char *, const char *, int, const char *) __attribute__((noreturn));
#define assert(condition) ((condition) ? (void)0 : __assert_c99(#condition, __FILE__, __LINE__, __func__))
#endif
