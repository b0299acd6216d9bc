int run_c_threads(int n);
int fork_and_read(void);
void start_alarms(void);
long stop_alarms(void);
