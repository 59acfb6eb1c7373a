package xfrm

import "slices"

// A full reading is sorted each time, and comparing records of 150 and 400
// bytes would cost more than reading them from the kernel. So small keys are
// sorted by their bytes, and each record is moved once.

// sortKey holds three words that decide the order of nearly all records: the
// first of them the most significant.
type sortKey struct {
	word [3]uint64
	at   int32 // the record's place before sorting
}

// sortBy sorts records by key, and by tie where the keys are equal.
func sortBy[T any](records []T, key func(*T) sortKey, tie func(a, b *T) int) {
	keys := make([]sortKey, len(records))
	for i := range records {
		keys[i] = key(&records[i])
		keys[i].at = int32(i)
	}
	keys = radix(keys)
	for i := 0; i < len(keys); {
		end := i + 1
		for end < len(keys) && keys[end].word == keys[i].word {
			end++
		}
		if end > i+1 {
			slices.SortStableFunc(keys[i:end], func(x, y sortKey) int {
				return tie(&records[x.at], &records[y.at])
			})
		}
		i = end
	}
	permute(records, keys)
}

// radix sorts keys by their words, byte for byte from the least significant. It
// passes over the bytes that are the same in all keys, which are most of them.
func radix(keys []sortKey) []sortKey {
	var differ [3]uint64
	for i := range keys {
		for w := range differ {
			differ[w] |= keys[i].word[w] ^ keys[0].word[w]
		}
	}
	other := make([]sortKey, len(keys))
	for w := len(differ) - 1; w >= 0; w-- {
		for shift := 0; shift < 64; shift += 8 {
			if byte(differ[w]>>shift) == 0 {
				continue
			}
			var next [256]int
			for i := range keys {
				next[byte(keys[i].word[w]>>shift)]++
			}
			sum := 0
			for b, n := range next {
				next[b] = sum
				sum += n
			}
			for i := range keys {
				b := byte(keys[i].word[w] >> shift)
				other[next[b]] = keys[i]
				next[b]++
			}
			keys, other = other, keys
		}
	}
	return keys
}

// permute puts the record that was at keys[i].at at i, for all i. It follows
// each cycle of the permutation; a place that is done points to itself.
func permute[T any](records []T, keys []sortKey) {
	for i := range keys {
		if int(keys[i].at) == i {
			continue
		}
		first, to := records[i], i
		for {
			from := int(keys[to].at)
			keys[to].at = int32(to)
			if from == i {
				records[to] = first
				break
			}
			records[to] = records[from]
			to = from
		}
	}
}
