extern int toupper(int);
extern int tolower(int);
