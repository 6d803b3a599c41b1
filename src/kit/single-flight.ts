/** Many askers, one piece of work: who asks for a key that is under way waits for the same answer. */

/** Makes a function that shares work by key. A failure reaches every asker and is not remembered. */
export function singleFlight<T>(): (key: string, work: () => Promise<T>) => Promise<T> {
  const flights = new Map<string, Promise<T>>();
  return (key, work) => {
    const flying = flights.get(key);
    if (flying !== undefined) return flying;
    const flight = work().finally(() => flights.delete(key));
    flights.set(key, flight);
    return flight;
  };
}
