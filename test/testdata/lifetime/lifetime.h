void start_c_threads(void);
int run_c_threads(int n);
int fork_and_read(void);
void start_alarms(long handler_ns);
void send_alarms(void);
long stop_alarms(void);
