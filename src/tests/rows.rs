//! Rows of device tensors, joined and cut, for every dtype, where rows end within a word and where they do not.

use crate::internals::devices;
use crate::ops::case;
use crate::{DType, Device, DeviceTensor, Error, Tensor};

const DTYPES: [DType; 9] = [
    DType::F32,
    DType::F16,
    DType::F64,
    DType::I64,
    DType::I32,
    DType::U16,
    DType::I8,
    DType::Bool,
    DType::U4,
];

/// Numbers 0 or 1, of which each is other than its neighbours in the row and in the column.
fn tensor(dtype: DType, first: usize, shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|i| ((first + i) % 3 % 2) as f32).collect();
    Tensor::from_slice(shape, &values).unwrap().cast(dtype).unwrap()
}

fn all_devices() -> Vec<Device> {
    devices::each().into_iter().chain([Device::reference()]).collect()
}

#[test]
fn joined_rows_are_those_of_the_parts() {
    for device in all_devices() {
        for dtype in DTYPES {
            for inner in [&[4][..], &[3], &[2, 5], &[], &[0]] {
                let rows = [2, 1, 0, 3];
                let row = inner.iter().product::<usize>();
                let whole = tensor(dtype, 0, &[&[6], inner].concat());
                let mut first = 0;
                let parts: Vec<Tensor> = rows
                    .iter()
                    .map(|&rows| {
                        let part = tensor(dtype, first * row, &[&[rows], inner].concat());
                        first += rows;
                        part
                    })
                    .collect();
                let on_device: Vec<DeviceTensor> =
                    parts.iter().map(|part| DeviceTensor::new(&device, part).unwrap()).collect();
                let joined = DeviceTensor::joined(&on_device.iter().collect::<Vec<_>>()).unwrap();
                let what = format!("{dtype}{inner:?} on {}", device.name());
                assert_eq!(joined.read().unwrap(), whole, "{what}");
                let again = joined.separated(&rows).unwrap();
                let again = DeviceTensor::read_all(&again.iter().collect::<Vec<_>>()).unwrap();
                assert_eq!(again, parts, "{what}");
                // The rest is in no part.
                assert_eq!(joined.separated(&[2]).unwrap()[0].read().unwrap(), parts[0], "{what}");
            }
        }
    }
}

#[test]
fn rows_are_copied_on_the_device() {
    for device in devices::each() {
        let one = DeviceTensor::new(&device, &case::random(&[3, 8])).unwrap();
        let before = device.counters();
        let parts = DeviceTensor::joined(&[&one, &one]).unwrap().separated(&[1, 5]).unwrap();
        assert_eq!((device.counters() - before).read_backs, 0);
        assert_eq!(parts[1].shape(), [5, 8]);
    }
}

/// Integers that lie in 32 bits beside such as need 64.
#[test]
fn integers_of_several_widths_are_joined() {
    for device in all_devices() {
        let [narrow, wide] = [7i64, 1 << 40].map(|value| Tensor::from_slice(&[1, 1], &[value]).unwrap());
        let tensors = [&narrow, &wide].map(|tensor| DeviceTensor::new(&device, tensor).unwrap());
        let joined = DeviceTensor::joined(&[&tensors[0], &tensors[1]]).unwrap();
        assert_eq!(joined.read().unwrap().as_slice::<i64>().unwrap(), [7, 1 << 40]);
        let parts = joined.separated(&[1, 1]).unwrap();
        assert_eq!(parts[0].read().unwrap(), narrow);
        assert_eq!(parts[1].read().unwrap(), wide);
    }
}

#[test]
fn rows_with_room_behind_them_are_joined() {
    for device in devices::each() {
        let host = case::random(&[2, 3, 4]);
        let roomy = DeviceTensor::new(&device, &host).unwrap().with_room(1, 9).unwrap();
        let joined = DeviceTensor::joined(&[&roomy, &roomy]).unwrap();
        let twice = [host.as_slice::<f32>().unwrap(), host.as_slice::<f32>().unwrap()].concat();
        assert_eq!(joined.read().unwrap().as_slice::<f32>().unwrap(), twice);
        let last = &roomy.separated(&[1, 1]).unwrap()[1];
        assert_eq!(last.read().unwrap().as_slice::<f32>().unwrap(), &twice[12..24]);
    }
}

#[test]
fn what_cannot_be_joined_is_refused() {
    let refused = |outcome: crate::Result<()>, text: &str| {
        let error = outcome.unwrap_err();
        assert!(matches!(&error, Error::Tensor(reason) if reason.contains(text)), "{error}");
    };
    let devices = all_devices();
    for device in &devices {
        let new = |tensor: &Tensor| DeviceTensor::new(device, tensor).unwrap();
        let (one, other) = (new(&case::random(&[2, 3])), new(&case::random(&[2, 4])));
        let scalar = new(&Tensor::from_slice(&[], &[1.0f32]).unwrap());
        refused(DeviceTensor::joined(&[]).map(drop), "no tensors");
        refused(DeviceTensor::joined(&[&one, &other]).map(drop), "[2, 4]");
        refused(DeviceTensor::joined(&[&scalar, &scalar]).map(drop), "[]");
        refused(DeviceTensor::joined(&[&one, &new(&tensor(DType::I32, 0, &[2, 3]))]).map(drop), "int32");
        refused(one.separated(&[2, 1]).map(drop), "[2, 1]");
        refused(one.separated(&[usize::MAX, 2]).map(drop), "has not");
        refused(scalar.separated(&[]).map(drop), "has not");
        for elsewhere in devices.iter().filter(|other| other.name() != device.name()) {
            let far = DeviceTensor::new(elsewhere, &case::random(&[2, 3])).unwrap();
            refused(DeviceTensor::joined(&[&one, &far]).map(drop), "one device");
            assert_eq!(DeviceTensor::read_all(&[&one, &far, &one]).unwrap()[2], one.read().unwrap());
        }
    }
}
