//! Tensors from arrays and views of the `ndarray` crate, and back.

use ndarray::{Array, ArrayBase, ArrayD, ArrayView, ArrayViewD, Data, Dimension};

use crate::{Element, Error, Result, Tensor};

/// With the feature `ndarray`.
impl Tensor {
    /// The elements as an `ndarray` view, not copied.
    ///
    /// # Errors
    /// As [`Tensor::as_slice`].
    ///
    /// ```
    /// let t = sardonyx::Tensor::from_slice(&[2, 1], &[1i64, 2])?;
    /// assert_eq!(t.view::<i64>()?[[1, 0]], 2);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn view<T: Element>(&self) -> Result<ArrayViewD<'_, T>> {
        let view = ArrayViewD::from_shape(self.shape(), self.as_slice()?);
        view.map_err(|error| Error::Tensor(error.to_string()))
    }

    /// A copy as an `ndarray` array.
    ///
    /// # Errors
    /// [`Error::Tensor`] if `T` is not the tensor's element type.
    ///
    /// ```
    /// use sardonyx::Tensor;
    /// let a = Tensor::from_slice(&[2, 1], &[1i64, 2])?.to_array::<i64>()?;
    /// assert_eq!(a[[1, 0]], 2);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn to_array<T: Element>(&self) -> Result<ArrayD<T>> {
        ArrayD::from_shape_vec(self.shape(), self.to_vec()?).map_err(|error| Error::Tensor(error.to_string()))
    }

    /// A tensor with a copy of the elements of an `ndarray` array or view, in logical order. [`Tensor::try_from`] takes over
    /// the memory of an array that is given by value.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the array is too large.
    ///
    /// ```
    /// use sardonyx::{Tensor, ndarray};
    /// let t = Tensor::from_array(&ndarray::arr1(&[1.0f32, 2.0]))?;
    /// assert_eq!(t.shape(), [2]);
    /// # Ok::<(), sardonyx::Error>(())
    /// ```
    pub fn from_array<T, S, D>(array: &ArrayBase<S, D>) -> Result<Tensor>
    where
        T: Element,
        S: Data<Elem = T>,
        D: Dimension,
    {
        let values = array.as_slice().map_or_else(|| array.iter().copied().collect(), <[T]>::to_vec);
        Tensor::from_vec(array.shape(), values)
    }
}

/// ```
/// use sardonyx::{Tensor, ndarray::Array2};
/// let tensor = Tensor::try_from(&Array2::<f32>::zeros((2, 3)))?;
/// # Ok::<(), sardonyx::Error>(())
/// ```
impl<T: Element, S: Data<Elem = T>, D: Dimension> TryFrom<&ArrayBase<S, D>> for Tensor {
    type Error = Error;

    fn try_from(array: &ArrayBase<S, D>) -> Result<Tensor> {
        Tensor::from_array(array)
    }
}

/// Copies nothing if the array is in row-major order and its memory holds no other elements.
impl<T: Element, D: Dimension> TryFrom<Array<T, D>> for Tensor {
    type Error = Error;

    fn try_from(array: Array<T, D>) -> Result<Tensor> {
        if !array.is_standard_layout() {
            return Tensor::from_array(&array);
        }
        let (shape, count) = (array.shape().to_vec(), array.len());
        match array.into_raw_vec_and_offset() {
            (values, None | Some(0)) if values.len() == count => Tensor::from_vec(&shape, values),
            (values, offset) => {
                let first = offset.unwrap_or(0);
                Tensor::from_slice(&shape, values.get(first..first + count).unwrap_or_default())
            }
        }
    }
}

impl<T: Element, D: Dimension> TryFrom<ArrayView<'_, T, D>> for Tensor {
    type Error = Error;

    fn try_from(view: ArrayView<'_, T, D>) -> Result<Tensor> {
        Tensor::from_array(&view)
    }
}

impl<T: Element> TryFrom<&Tensor> for ArrayD<T> {
    type Error = Error;

    fn try_from(tensor: &Tensor) -> Result<ArrayD<T>> {
        tensor.to_array()
    }
}

impl<T: Element> TryFrom<Tensor> for ArrayD<T> {
    type Error = Error;

    fn try_from(tensor: Tensor) -> Result<ArrayD<T>> {
        tensor.to_array()
    }
}

/// ```
/// use sardonyx::{Tensor, ndarray::ArrayViewD};
/// let tensor = Tensor::from_slice(&[2], &[1.0f32, 2.0])?;
/// let view: ArrayViewD<f32> = (&tensor).try_into()?;
/// assert_eq!(view.sum(), 3.0);
/// # Ok::<(), sardonyx::Error>(())
/// ```
impl<'a, T: Element> TryFrom<&'a Tensor> for ArrayViewD<'a, T> {
    type Error = Error;

    fn try_from(tensor: &'a Tensor) -> Result<ArrayViewD<'a, T>> {
        tensor.view()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_keep_their_logical_order() {
        let array = ndarray::arr2(&[[1i32, 2, 3], [4, 5, 6]]);
        let rows = Tensor::try_from(array.clone()).unwrap();
        assert_eq!((rows.shape(), rows.as_slice::<i32>().unwrap()), (&[2, 3][..], &[1, 2, 3, 4, 5, 6][..]));
        let columns = Tensor::try_from(array.t()).unwrap();
        assert_eq!(
            (columns.shape(), columns.as_slice::<i32>().unwrap()),
            (&[3, 2][..], &[1, 4, 2, 5, 3, 6][..])
        );
        let turned = Tensor::try_from(array.clone().reversed_axes()).unwrap();
        assert_eq!(turned, columns);
        // An owned array in a larger memory, which begins before the array and ends after it.
        let part = array.clone().slice_move(ndarray::s![1.., 1..2]);
        assert_eq!(Tensor::try_from(part).unwrap(), Tensor::from_slice(&[1, 1], &[5i32]).unwrap());
        let back: ndarray::ArrayD<i32> = (&columns).try_into().unwrap();
        assert_eq!(back, array.t().into_dyn());
        let view: ArrayViewD<i32> = (&rows).try_into().unwrap();
        assert_eq!(view, array.view().into_dyn());
        assert!(ArrayD::<f32>::try_from(rows).is_err());
    }

    #[test]
    fn arrays_are_taken_over() {
        let array = ndarray::arr1(&[1u8, 2]);
        let place = array.as_ptr();
        assert_eq!(Tensor::try_from(array).unwrap().bytes().as_ptr(), place);
    }
}
