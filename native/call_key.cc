#include "call_key.h"

#include <string_view>
#include <type_traits>
#include <unordered_map>

namespace nb = nanobind;

namespace depthwise {
namespace {

static_assert(std::has_unique_object_representations_v<CallKey>);

struct KeyHash {
  size_t operator()(const CallKey& key) const {
    return std::hash<std::string_view>{}({reinterpret_cast<const char*>(&key), sizeof key});
  }
};

// With this many, some 450 KB, all are forgotten.
constexpr size_t kMaxSolutions = 1024;

// Used with the GIL held. Never destroyed: daemon threads call until the process ends.
std::unordered_map<CallKey, Solution, KeyHash>& Solutions() {
  static auto* solutions = new std::unordered_map<CallKey, Solution, KeyHash>;
  return *solutions;
}

// False for anything but a list or tuple of so many items. They are borrowed from it.
template <int kCount>
bool ReadItems(nb::handle values, nb::handle (&items)[kCount]) {
  PyObject* const sequence = values.ptr();
  const bool is_list = PyList_CheckExact(sequence);
  if (!is_list && !PyTuple_CheckExact(sequence)) return false;
  if ((is_list ? PyList_Size(sequence) : PyTuple_Size(sequence)) != kCount) return false;
  for (int i = 0; i < kCount; ++i) {
    items[i] = is_list ? PyList_GetItem(sequence, i) : PyTuple_GetItem(sequence, i);
  }
  return true;
}

// False for anything but an int, which no bool is, that fits 64 bits.
bool ReadInteger(nb::handle value, int64_t* integer) {
  int overflow;
  if (!PyLong_CheckExact(value.ptr())) return false;
  *integer = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  return overflow == 0;
}

template <int kCount>
bool ReadIntegers(nb::handle values, int64_t (&integers)[kCount]) {
  nb::handle items[kCount];
  if (!ReadItems(values, items)) return false;
  for (int i = 0; i < kCount; ++i) {
    if (!ReadInteger(items[i], &integers[i])) return false;
  }
  return true;
}

bool IsText(nb::handle value, const char* text) {
  return PyUnicode_CheckExact(value.ptr()) &&
         PyUnicode_CompareWithASCIIString(value.ptr(), text) == 0;
}

bool ReadPadding(nb::handle given, CallKey* key) {
  key->padding = IsText(given, "SAME") ? 'S' : IsText(given, "VALID") ? 'V' : 'E';
  if (key->padding != 'E') return true;
  nb::handle pairs[4];
  if (!ReadItems(given, pairs)) return false;
  for (int axis = 0; axis < 4; ++axis) {
    if (!ReadIntegers(pairs[axis], key->paddings[axis])) return false;
  }
  return true;
}

}  // namespace

bool ReadOptions(const CallArguments& given, CallKey* key) {
  key->operation = given.operation;
  key->is_nchw = IsText(given.data_format, "NCHW");
  key->dilations[0] = key->dilations[1] = 1;
  return ReadPadding(given.padding, key) &&
         (key->is_nchw || given.data_format.is_none() || IsText(given.data_format, "NHWC")) &&
         ReadIntegers(given.strides, key->strides) &&
         (given.dilations.is_none() || ReadIntegers(given.dilations, key->dilations)) &&
         (given.operation == Operation::kForward || ReadIntegers(given.sizes, key->sizes));
}

bool ReadLayerOptions(nb::handle in_channels, nb::handle stride, nb::handle padding,
                      nb::handle dilation, CallKey* key) {
  int64_t strides[2], sides[2];
  if (!ReadInteger(in_channels, &key->layer_channels) || !ReadIntegers(stride, strides) ||
      !ReadIntegers(dilation, key->dilations)) {
    return false;
  }
  for (int axis = 0; axis < 2; ++axis) key->strides[2 + axis] = strides[axis];
  key->is_nchw = true;
  key->padding = IsText(padding, "SAME") || IsText(padding, "same")     ? 'S'
                 : IsText(padding, "VALID") || IsText(padding, "valid") ? 'V'
                                                                        : 'E';
  if (key->padding != 'E') return true;
  if (!ReadIntegers(padding, sides)) return false;
  for (int axis = 0; axis < 2; ++axis) {
    for (int64_t& side : key->paddings[2 + axis]) side = sides[axis];
  }
  return true;
}

const Solution* FindSolution(const CallKey& key) {
  const auto found = Solutions().find(key);
  return found == Solutions().end() ? nullptr : &found->second;
}

void RememberSolution(const CallKey& key, const Solution& solution) {
  if (Solutions().size() >= kMaxSolutions) Solutions().clear();
  Solutions().insert_or_assign(key, solution);
}

}  // namespace depthwise
